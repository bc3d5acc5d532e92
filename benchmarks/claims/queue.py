"""More negatives than the batch has, from a queue of the last vectors; and a larger batch, which shows their worth."""

from dataclasses import dataclass

from tercet.benchmarks.claims.experiment.built_in import image_text
from tercet.benchmarks.claims.experiment.claim import Claim
from tercet.data_pipelines.builtin.config import WorldConfig


@dataclass(frozen=True)
class Training:
    """Two small towers on pictures and captions. `keys`: vectors in the queue, 0 for none."""

    keys: int
    steps: int = 600
    batch_size: int = 32
    lr: float = 5e-4
    start: float = 0.5

    def run(self, seed: int) -> dict[str, float]:
        queue = {
            "memories": {"queue": {"fields": ["image", "text"], "size": self.keys, "start": self.start}},
            "against": {"text": ["queue.image"], "image": ["queue.text"]},
        }
        return image_text(
            seed,
            WorldConfig(),
            steps=self.steps,
            batch_size=self.batch_size,
            optimizer={"lr": self.lr},
            **(queue if self.keys else {}),
        )


CLAIM = Claim(
    says="With batches of 32, a queue of 1,024 vectors raises R@1.",
    source="He et al. 2020; Wang et al. 2020",
    measure="image→text R@1",
    arms={"with": Training(keys=1024), "without": Training(keys=0)},
)
