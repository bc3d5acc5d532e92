"""The other side of the claim `temperature`: vectors that spread more are less alike within a class."""

from tercet.benchmarks.claims.experiment.claim import Claim
from tercet.benchmarks.claims.temperature import CLAIM as UNIFORMITY

CLAIM = Claim(
    says="At a lower temperature, samples of the same class are less alike.",
    source="Wang & Liu 2021",
    measure="tolerance",
    arms=UNIFORMITY.arms,
    better="lower",
)
