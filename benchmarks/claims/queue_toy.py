"""The queue on synthetic pairs, where it works even in the only term, and how much it moves all vectors together.

Uses the terms and the queue of a run, with a training loop of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from tercet.benchmarks.claims.experiment.claim import Claim
from tercet.benchmarks.claims.experiment.synthetic import DIM, FIELDS, Pairs, Towers, recall
from tercet.data_pipelines.sample import Batch, Field
from tercet.distributed import World
from tercet.models.config import TermConfig
from tercet.models.losses.terms import Outcome, Terms
from tercet.training.memory.memories import Memories
from tercet.training.memory.vector_queue import VectorQueue

CANDIDATES = 1_000
TERM: dict[str, Any] = {"between": ("image", "text")}
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
        terms = Terms([TermConfig(**TERM, against=AGAINST if self.keys else {})], tile=512)
        queue = VectorQueue(FIELDS, self.keys, 0, DIM, "toy", torch.device("cpu"))
        memories = Memories({"queue": queue} if self.keys else {})
        optimizer = AdamW(towers.parameters(), lr=self.lr)
        schedule = CosineAnnealingLR(optimizer, self.steps)
        for step in range(self.steps):
            batch = batch_of(pairs.draw(self.batch_size), first=step * self.batch_size)
            vectors = towers({name: field.values for name, field in batch.fields.items()})
            detached = {name: z_nd.detach() for name, z_nd in vectors.items()}
            scale = towers.log_scale.exp()
            outcome = terms(
                batch, detached, {"image-text": (scale.detach()[None], None)}, World(), memories.known(batch)
            )
            optimizer.zero_grad()
            torch.autograd.backward(surrogate(vectors, scale, outcome))
            optimizer.step()
            schedule.step()
            memories.after(batch, outcome)
        return measured(towers, pairs)


def batch_of(values: Mapping[str, Tensor], first: int) -> Batch:
    """Pairs with ids from `first` on. No pair comes twice, so each is its own group."""
    item_n = torch.arange(len(values["image"]))
    return Batch(item_n + first, item_n + first, {name: Field(name, seen, item_n) for name, seen in values.items()})


def surrogate(vectors: Mapping[str, Tensor], scale: Tensor, outcome: Outcome) -> Tensor:
    """A scalar with the gradients that the terms found."""
    scale_slope, _ = outcome.temperatures["image-text"]
    rows = sum(((z_nd * outcome.rows[name]).sum() for name, z_nd in vectors.items()), torch.zeros(()))
    return rows + (scale * scale_slope).sum()


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
