"""DCL at batches of 8 and 16, where InfoNCE learns little from a pair that is closest in its batch already.

All arms see the same number of pairs, at a fixed temperature. The learning rate of each batch size is the one of
three that serves InfoNCE best, on other seeds. The claim `decoupled_large` has batches of 256.
"""

from tercet.benchmarks.claims.experiment.claim import Claim
from tercet.benchmarks.claims.experiment.pair_training import PairTraining

PAIRS = 12_000


def training(objective: str, batch_size: int, lr: float) -> PairTraining:
    fixed = {"name": objective, "scale": 14.0, "bounds": (14.0, 14.0)}
    return PairTraining(fixed, batch_size, PAIRS // batch_size, lr, noise=0.75)


CLAIM = Claim(
    says="At batches of 8, DCL finds more than InfoNCE.",
    source="Yeh et al. 2022",
    measure="image→text R@1",
    arms={
        "decoupled": training("decoupled", 8, 4e-3),
        "infonce": training("infonce", 8, 4e-3),
        "decoupled, batch 16": training("decoupled", 16, 16e-3),
        "infonce, batch 16": training("infonce", 16, 16e-3),
    },
)
