"""Dataset cartography (Swayamdipta et al. 2020): how confident the model is in each training sample, over the run.

Each step with a sample gives one observation: the probability of its positive among all keys of the batch, averaged
over the directions of one term. `confidence` is the mean of a sample's observations, and `variability` their standard
deviation. Easy samples have high confidence and low variability. Mislabelled samples tend to have low confidence and
low variability. Ambiguous samples have high variability. The paper classifies among fixed classes, and observes each
sample once in an epoch. Here the negatives are the other samples of the batch: compare only values of one batch size.

Shape letters: N observations of all ranks, n those of samples that this rank owns, u these samples without duplicates.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from tercet.data_pipelines.batches.batches import SourceIds
from tercet.data_pipelines.columns import PIECE, Column, write_column
from tercet.data_pipelines.sample import Batch
from tercet.distributed import World
from tercet.models.losses.anchors import Anchors
from tercet.models.losses.objective import Objective
from tercet.models.losses.terms import Outcome
from tercet.training.memory.table import SampleTable

# For each sample: the number of observations, their mean, and the sum of their squared differences from the mean.
MOMENTS = {"count": torch.int32, "mean": torch.float32, "squares": torch.float32}


class Cartography(SampleTable):
    """A table of each sample's observations of one term. It takes 12 bytes for each sample, over all ranks together."""

    def __init__(self, term: str, objective: Objective, sources: Sequence[SourceIds], world: World) -> None:
        super().__init__(MOMENTS, sources, world)
        self.term, self.objective = term, objective

    def after(self, batch: Batch, outcome: Outcome) -> None:
        id_N, probability_N = self._observe(outcome.anchors[self.term])
        own_N = self.owned(id_N)
        id_u, index_n = torch.unique(id_N[own_N], return_inverse=True)
        new = moments(probability_N[own_N], index_n, len(id_u))
        self.put(id_u, merged(self.get(id_u), new))

    def read(self, id_N: Tensor) -> dict[str, Tensor]:
        """`count`, `confidence` and `variability` of samples. They are 0 for samples that no step has had yet."""
        return named(super().read(id_N))

    def finish(self, folder: Path) -> None:
        """Writes the values of all observed samples as columns of their source."""
        for source, first, found in self.pieces(PIECE):
            seen = found["count"] > 0
            if self.world.first and seen.any():
                values = {name: value[seen].numpy() for name, value in named(found).items()}
                write_column(folder, source, Column(first + torch.nonzero(seen)[:, 0].numpy(), values))

    def _observe(self, directions: list[Anchors]) -> tuple[Tensor, Tensor]:
        """The ids and the observations of the items of the batch: the means over their rows in all directions."""
        item = torch.cat([anchors.rows.item_N for anchors in directions]).cpu()
        id = torch.cat([anchors.rows.id_N for anchors in directions]).cpu()
        probability = torch.cat([self.objective.probability(anchors) for anchors in directions]).float().cpu()
        items, index = torch.unique(item, return_inverse=True)
        id_N = torch.zeros_like(items).scatter_(0, index, id)
        return id_N, moments(probability, index, len(items))["mean"]


def moments(value: Tensor, index: Tensor, size: int) -> dict[str, Tensor]:
    """The count, the mean and the sum of squares of the values of each index below `size`."""
    count = torch.bincount(index, minlength=size)
    mean = torch.zeros(size).index_add_(0, index, value) / count
    squares = torch.zeros(size).index_add_(0, index, (value - mean[index]).square())
    return {"count": count, "mean": mean, "squares": squares}


def merged(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The moments of both sets of values together (Chan et al. 1979). No count of `other` may be 0."""
    count = one["count"] + other["count"]
    difference, share = other["mean"] - one["mean"], other["count"] / count
    squares = one["squares"] + other["squares"] + difference.square() * one["count"] * share
    return {"count": count, "mean": one["mean"] + difference * share, "squares": squares}


def named(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The moments as the values of the paper: `count`, `confidence` and `variability`."""
    variability = (found["squares"] / found["count"].clamp(min=1)).sqrt()
    return {"count": found["count"], "confidence": found["mean"], "variability": variability}
