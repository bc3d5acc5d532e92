"""The learning rates and schedules that were tried for the recipe `strong_baseline`, on seeds that no claim uses.

The first arm is what the recipe has, the second has the rate of `demo`.
"""

from dataclasses import dataclass

from tercet.benchmarks.claims.experiment.claim import Claim
from tercet.benchmarks.claims.experiment.strong import RECALL, Strong

FIRST_SEED = 1_000


@dataclass(frozen=True)
class Tried(Strong):
    """The baseline on seeds of its own."""

    def run(self, seed: int) -> dict[str, float]:
        return super().run(FIRST_SEED + seed)


CLAIM = Claim(
    says="The learning rate of the strong baseline costs less than 2 points of R@1 beside that of the recipe `demo`.",
    source="the recipe",
    measure=RECALL,
    arms={
        "1e-3": Tried(lr=1e-3),
        "2e-3": Tried(lr=2e-3),
        "5e-4": Tried(lr=5e-4),
        "1e-3, constant": Tried(lr=1e-3, schedule="constant"),
    },
    gain=(-2, None),
)
