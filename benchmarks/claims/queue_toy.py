"""The queue on synthetic pairs, where it works even in the only term, and how much it moves all vectors together."""

from dataclasses import dataclass
from typing import Any

import torch

from tercet.benchmarks.claims.experiment.claim import Claim
from tercet.benchmarks.claims.experiment.synthetic import DIM, FIELDS, Pairs, Towers, recall
from tercet.benchmarks.claims.experiment.training import batch_of, fit_term
from tercet.data_pipelines.sample import Batch
from tercet.models.term_config import TermConfig
from tercet.training.memory.memories import Memories
from tercet.training.memory.vector_queue import VectorQueue

CANDIDATES = 1_000
TERM: dict[str, Any] = {"between": FIELDS, "objective": {"name": "infonce", "scale": 20}}
AGAINST = {"text": ("queue.image",), "image": ("queue.text",)}


@dataclass(frozen=True)
class Training:
    """Two towers on new pairs in every step. `keys`: vectors in the queue."""

    keys: int
    steps: int = 400
    batch_size: int = 32
    lr: float = 2e-3

    def run(self, seed: int) -> dict[str, float]:
        pairs, towers = Pairs(seed), Towers(seed)
        term = TermConfig(**TERM, against=AGAINST if self.keys else {})
        queue = VectorQueue(FIELDS, self.keys, 0, DIM, "toy", torch.device("cpu"))
        memories = Memories({"queue": queue} if self.keys else {})

        def draw(step: int) -> Batch:
            ids = torch.arange(self.batch_size) + step * self.batch_size
            return batch_of(pairs.draw(self.batch_size), ids)

        fit_term(towers, term, draw, self.steps, self.lr, memories)
        return measured(towers, pairs)


@torch.no_grad()
def measured(towers: Towers, pairs: Pairs) -> dict[str, float]:
    image_nd, text_nd = towers(pairs.draw(CANDIDATES)).values()
    others = ~torch.eye(CANDIDATES, dtype=torch.bool)
    alike = float((image_nd @ image_nd.T)[others].mean())
    return {
        "image→text R@1": recall(image_nd, text_nd),
        "text→image R@1": recall(text_nd, image_nd),
        "mean cosine of two images": alike,
    }


CLAIM = Claim(
    says="With batches of 32 synthetic pairs, a queue of 1,024 vectors raises R@1.",
    source="He et al. 2020; Wang et al. 2020",
    measure="image→text R@1",
    arms={"with": Training(keys=1024), "without": Training(keys=0)},
)
