"""More negatives than the batch has: a second term, of small weight, compares the batch with the vectors of past steps.

If it is used in the only term from the first step on, these towers collapse. Each anchor pulls its positive key, but
most of its negatives are queued vectors without a gradient, so that keys are pulled more than pushed. Without a queue,
the second term changed no result.
"""

from dataclasses import dataclass
from typing import Any

from tercet.benchmarks.claims.experiment.built_in import image_text
from tercet.benchmarks.claims.experiment.claim import Claim
from tercet.data_pipelines.builtin.config import WorldConfig

AGAINST = {"text": ["queue.image"], "image": ["queue.text"]}


@dataclass(frozen=True)
class Training:
    """Two small towers on pictures and captions. `keys`: vectors in the queue. `weight`: that of the second term."""

    keys: int
    weight: float
    start: float = 0.1
    steps: int = 600
    batch_size: int = 32
    lr: float = 5e-4

    def run(self, seed: int) -> dict[str, float]:
        second = {"name": "second", "between": ["image", "text"], "weight": self.weight}
        queue: dict[str, Any] = {}
        if self.keys:
            second["against"] = AGAINST
            queue = {"queue": {"fields": ["image", "text"], "size": self.keys, "start": self.start}}
        return image_text(
            seed,
            WorldConfig(),
            terms=[{"between": ["image", "text"]}, *([second] if self.weight else [])],
            memories=queue,
            steps=self.steps,
            batch_size=self.batch_size,
            optimizer={"lr": self.lr},
        )


CLAIM = Claim(
    says="With batches of 32, a queue of 1,024 vectors raises R@1, in a second term of weight 0.1.",
    source="He et al. 2020; Wang et al. 2020",
    measure="image→text R@1",
    arms={
        "with": Training(keys=1024, weight=0.1),
        "without": Training(keys=0, weight=0),
    },
)
