"""Dataset cartography (Swayamdipta et al. 2020): how sure the model is of each training sample, over the whole run.

At every step that a sample is in, the probability of its positive among all keys of the batch is one observation: the
mean over the directions of one term. The paper's `confidence` is the mean of a sample's observations and `variability`
their standard deviation. Easy samples have high confidence and low variability; mislabelled ones tend to have low
confidence and low variability; ambiguous ones have high variability. The paper observes each sample once an epoch, and
classifies among classes; here the rivals are the other samples of the batch, so compare within one batch size only.

Shape letters: N observations of all ranks, n those of samples that this rank owns, u of these samples, each once.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from tercet.data_pipelines.batches.batches import SourceIds
from tercet.data_pipelines.columns import PIECE, Column, write_column
from tercet.data_pipelines.sample import Batch
from tercet.distributed import World
from tercet.models.losses.objective import Objective, Row
from tercet.models.losses.terms import Direction, Outcome
from tercet.training.memory.table import Table

# How many observations a sample has, their mean, and the sum of their squared differences from it.
MOMENTS = {"count": torch.int32, "mean": torch.float32, "squares": torch.float32}


class Cartography(Table):
    """A table of each sample's observations of one term; 12 bytes a sample, over all ranks together."""

    def __init__(self, term: str, objective: Objective, sources: Sequence[SourceIds], world: World) -> None:
        super().__init__(MOMENTS, sources, world)
        self.term, self.objective = term, objective

    def after(self, batch: Batch, outcome: Outcome) -> None:
        id_N, probability_N = self._observe(outcome.directions[self.term])
        own_N = self.owned(id_N)
        id_u, index_n = torch.unique(id_N[own_N], return_inverse=True)
        new = moments(probability_N[own_N], index_n, len(id_u))
        self.put(id_u, merged(self.get(id_u), new))

    def read(self, id_N: Tensor) -> dict[str, Tensor]:
        """`count`, `confidence` and `variability` of samples; zeros for one that was not in a step yet."""
        return named(super().read(id_N))

    def finish(self, folder: Path) -> None:
        """Writes the samples that were in a step, as a column of their source."""
        for source, first, found in self.pieces(PIECE):
            seen = found["count"] > 0
            if self.world.first and seen.any():
                values = {name: value[seen].numpy() for name, value in named(found).items()}
                write_column(folder, source, Column(first + torch.nonzero(seen)[:, 0].numpy(), values))

    def _observe(self, directions: list[Direction]) -> tuple[Tensor, Tensor]:
        """One observation for each item of the batch: the mean over its rows in all directions."""
        item = torch.cat([one.item_N for one in directions]).cpu()
        id = torch.cat([one.id_N for one in directions]).cpu()
        rows = [Row(one.anchors.positive_N, one.anchors.reduced_N) for one in directions]
        probability = torch.cat([self.objective.probability(row) for row in rows]).float().cpu()
        items, index = torch.unique(item, return_inverse=True)
        id_N = torch.zeros_like(items).scatter_(0, index, id)
        return id_N, moments(probability, index, len(items))["mean"]


def moments(value: Tensor, index: Tensor, size: int) -> dict[str, Tensor]:
    """Count, mean and squares of the values with each index."""
    count = torch.bincount(index, minlength=size)
    mean = torch.zeros(size).index_add_(0, index, value) / count
    squares = torch.zeros(size).index_add_(0, index, (value - mean[index]).square())
    return {"count": count, "mean": mean, "squares": squares}


def merged(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The moments of the values behind both (Chan et al. 1979); `other` counts at least one everywhere."""
    count = one["count"] + other["count"]
    difference, share = other["mean"] - one["mean"], other["count"] / count
    squares = one["squares"] + other["squares"] + difference.square() * one["count"] * share
    return {"count": count, "mean": one["mean"] + difference * share, "squares": squares}


def named(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Moments under the names of the paper."""
    variability = (found["squares"] / found["count"].clamp(min=1)).sqrt()
    return {"count": found["count"], "confidence": found["mean"], "variability": variability}
