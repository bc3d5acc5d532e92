"""What the claim `matryoshka` costs: R@1 of vectors that are not cut."""

from tercet.benchmarks.claims.experiment.claim import Claim
from tercet.benchmarks.claims.matryoshka import CLAIM as CUT

CLAIM = Claim(
    says="Matryoshka costs the full vectors less than 2 points of R@1.",
    source="Kusupati et al. 2022",
    measure="full",
    arms=CUT.arms,
    gain=(-2, None),
)
