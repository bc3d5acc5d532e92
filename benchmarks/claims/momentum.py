"""Keys of a momentum encoder: more negatives than the batch has, in the only term.

A queue that the trained towers fill themselves makes these towers collapse in the only term (see `queue`). If a slowly
moving copy of them makes all keys, the positives are as old as the negatives, and no anchor pulls its key.
The decay is the first one that was tried, on another seed than those of the result.
"""

from dataclasses import dataclass
from typing import Any

from tercet.benchmarks.claims.experiment.built_in import image_text
from tercet.benchmarks.claims.experiment.claim import Claim
from tercet.data_pipelines.builtin.config import WorldConfig


@dataclass(frozen=True)
class Training:
    """Two small towers on pictures and captions. `keys`: vectors in the queue. `decay`: that of the momentum encoder
    that makes all keys; 0: the trained towers make them."""

    keys: int
    decay: float
    start: float = 0.0
    scale: float = 1 / 0.07
    steps: int = 600
    batch_size: int = 32
    lr: float = 5e-4

    def run(self, seed: int) -> dict[str, float]:
        objective = {"name": "infonce", "scale": self.scale}
        queue: dict[str, Any] = {"fields": ["image", "text"], "size": self.keys, "start": self.start}
        memories: dict[str, Any] = {"queue": queue} if self.keys else {}
        terms: list[dict[str, Any]] = [{"between": ["image", "text"], "objective": objective}]
        if self.decay:
            memories |= {"momentum": {"decay": self.decay}}
            queue["encoder"] = "momentum"
            terms = [
                {"between": [anchor, f"momentum.{key}"], "objective": objective, "weight": 0.5}
                for anchor, key in (("image", "text"), ("text", "image"))
            ]
        for term in terms if self.keys else ():
            fields = [name.removeprefix("momentum.") for name in term["between"]]
            trained = fields[:1] if self.decay else fields
            term["against"] = {anchor: [f"queue.{key}" for key in fields if key != anchor] for anchor in trained}
        return image_text(
            seed,
            WorldConfig(),
            terms=terms,
            memories=memories,
            steps=self.steps,
            batch_size=self.batch_size,
            optimizer={"lr": self.lr},
        )


CLAIM = Claim(
    says="With batches of 32, a momentum encoder and a queue of 1,024 of its vectors raise R@1, in the only term.",
    source="He et al. 2020",
    measure="image→text R@1",
    arms={
        "with": Training(keys=1024, decay=0.99),
        "without": Training(keys=0, decay=0),
        "queue of the trained towers": Training(keys=1024, decay=0, start=0.1),
    },
)
