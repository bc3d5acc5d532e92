"""The sigmoid loss and InfoNCE lead to the same retrieval, at the same number of steps and the same learning rate.

Each learns its temperature from the default of its objective. The learning rate is the better of
two for both, on other seeds.
"""

from tercet.benchmarks.claims.experiment.claim import Claim
from tercet.benchmarks.claims.experiment.pair_training import PairTraining

CLAIM = Claim(
    says="At equal budget, R@1 of the sigmoid loss and of InfoNCE differ by less than 3 points.",
    source="Zhai et al. 2023",
    measure="image→text R@1",
    arms={
        "sigmoid": PairTraining({"name": "sigmoid"}, batch_size=128, steps=300, lr=6e-3),
        "infonce": PairTraining({"name": "infonce"}, batch_size=128, steps=300, lr=6e-3),
    },
    gain=(-3, 3),
)
