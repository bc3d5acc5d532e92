"""The score of each sample of a super-batch, given those that were chosen so far.

Every rank has the vectors of all ranks, and scores its own samples. The two sums over the chosen samples (see
`pair_losses.py`) are kept chunk by chunk. So a new chunk costs only the comparison with its own samples, and a chunk
can be taken back exactly.

Shapes: N samples of all ranks, n of this rank, k chosen ones, C chunks, d dimensions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from tercet.data_pipelines.sample import Field
from tercet.distributed import World
from tercet.training.selection.pair_losses import Kind, PairLoss


@dataclass(frozen=True)
class ItemVectors:
    """A vector for each sample of all ranks, and whether the sample has one: the mean over its rows of a field.

    The similarity of two samples is then the mean over all pairs of their rows.
    """

    z_Nd: Tensor
    has_N: Tensor

    @staticmethod
    def gather(z_rd: Tensor, field: Field, samples: int, world: World) -> "ItemVectors":
        """`z_rd` has the vectors of this rank's rows, which belong to `samples` samples. A collective."""
        rows_n = torch.zeros(samples, device=z_rd.device).index_add_(0, field.item, torch.ones_like(z_rd[:, 0]).float())
        sum_nd = torch.zeros(samples, z_rd.shape[1], device=z_rd.device).index_add_(0, field.item, z_rd.float())
        mean_nd = sum_nd / rows_n.clamp(min=1)[:, None]
        return ItemVectors(world.gather(mean_nd), world.gather(rows_n) > 0)


@dataclass(frozen=True)
class Temperature:
    """What turns cosines into logits."""

    scale: float
    bias: float

    @staticmethod
    def of(kind: Kind, scale: Tensor, bias: Tensor | None) -> "Temperature":
        """That of a term, without the bias if the loss of pairs does not depend on it."""
        return Temperature(float(scale), 0.0 if bias is None or kind == "softmax" else float(bias))


@dataclass(frozen=True)
class View:
    """How one model sees two fields of all samples. `weight` is negative for a reference."""

    x_Nd: Tensor
    y_Nd: Tensor
    temperature: Temperature
    loss: PairLoss
    weight: float

    @property
    def scale(self) -> float:
        return self.temperature.scale

    def positives(self, own: slice) -> Tensor:
        """The logit of each of this rank's pairs."""
        return ((self.x_Nd[own] * self.y_Nd[own]).sum(dim=1) * self.scale + self.temperature.bias).double()

    def sums(self, own: slice, key_k: Tensor, group_N: Tensor, tile: int) -> Tensor:
        """The sums of this rank's rows and columns over the samples at the places `key_k` `[n, 2]`."""
        return torch.stack(
            [
                self._sum(one[own], other, own, key_k, group_N, tile)
                for one, other in ((self.x_Nd, self.y_Nd), (self.y_Nd, self.x_Nd))
            ],
            dim=1,
        )

    def _sum(self, z_nd: Tensor, z_Nd: Tensor, own: slice, key_k: Tensor, group_N: Tensor, tile: int) -> Tensor:
        """One of the two sums. It leaves out the keys of a sample's own group, and so the sample itself."""
        total_n = torch.full((len(z_nd),), self.loss.empty, dtype=torch.float64, device=z_nd.device)
        for part_k in torch.split(key_k, tile):
            logits_nk = (z_nd * self.scale) @ z_Nd[part_k].T + self.temperature.bias
            open_nk = group_N[own, None] != group_N[part_k]
            total_n = self.loss.merge(total_n, self.loss.reduce(logits_nk, open_nk).double())
        return total_n


@dataclass(frozen=True)
class PairViews:
    """Two fields of a term of the loss: which samples have both, and each model's view of them."""

    name: str
    has_N: Tensor
    weight: float
    views: tuple[View, ...]


@dataclass(frozen=True)
class Views:
    """All that is compared in a super-batch. `own`: the places of this rank's samples."""

    pairs: Sequence[PairViews]
    group_N: Tensor
    own: slice
    tile: int

    @property
    def scale(self) -> float:
        """The largest of all, by which the rounding errors of logits grow."""
        return max(view.scale for pair in self.pairs for view in pair.views)

    def independent(self) -> Tensor:
        """The score of each of this rank's samples, given all others of the super-batch."""
        whole = Candidates(self, chunks=1)
        whole.choose(0, torch.arange(len(self.group_N), device=self.group_N.device))
        return whole.scores()


class Candidates:
    """This rank's samples of a super-batch, with their scores: the weighted mean over the pairs of fields they have.

    The score of a sample that has no pair is NaN.
    """

    def __init__(self, views: Views, chunks: int) -> None:
        self.views, self.samples = views, views.own.stop - views.own.start
        self._sums = [[self._full(view.loss.empty, chunks, 2) for view in pair.views] for pair in views.pairs]

    def choose(self, chunk: int, key_k: Tensor) -> None:
        """Makes the samples at these places, over all ranks, the chosen ones of a chunk."""
        own, group_N, tile = self.views.own, self.views.group_N, self.views.tile
        for pair, sums in zip(self.views.pairs, self._sums, strict=True):
            present_k = key_k[pair.has_N[key_k]]
            for view, sum_nC2 in zip(pair.views, sums, strict=True):
                sum_nC2[:, chunk] = view.sums(own, present_k, group_N, tile)

    def alone(self) -> Tensor:
        """The scores before any sample was chosen."""
        own, pairs = self.views.own, self.views.pairs
        return self._mean([[v.loss.alone(v.positives(own), v.scale) for v in pair.views] for pair in pairs])

    def scores(self, without: int | None = None) -> Tensor:
        """The scores given the samples of all chunks, except those of the chunk `without`."""
        return self._evaluate(lambda loss: loss.given, without)

    def members(self) -> Tensor:
        """What each sample contributes to the score of the chosen set, if it is one of the set."""
        return self._evaluate(lambda loss: loss.member)

    def _evaluate(self, of: Callable[[PairLoss], Callable[..., Tensor]], without: int | None = None) -> Tensor:
        found = []
        for pair, sums in zip(self.views.pairs, self._sums, strict=True):
            losses = []
            for view, sum_nC2 in zip(pair.views, sums, strict=True):
                parts = [part_n2 for chunk, part_n2 in enumerate(sum_nC2.unbind(1)) if chunk != without]
                row_n, column_n = reduce(view.loss.merge, parts, self._full(view.loss.empty, 2)).unbind(1)
                losses.append(of(view.loss)(view.positives(self.views.own), row_n, column_n, view.scale))
            found.append(losses)
        return self._mean(found)

    def _mean(self, found: list[list[Tensor]]) -> Tensor:
        """The scores, from the loss of each view of each pair of fields."""
        total_n, weight_n = self._full(0.0), self._full(0.0)
        for pair, losses in zip(self.views.pairs, found, strict=True):
            has_n = pair.has_N[self.views.own]
            for view, loss_n in zip(pair.views, losses, strict=True):
                total_n += torch.where(has_n, pair.weight * view.weight * loss_n, 0.0)
            weight_n += pair.weight * has_n
        return total_n / weight_n

    def _full(self, value: float, *shape: int) -> Tensor:
        return torch.full((self.samples, *shape), value, dtype=torch.float64, device=self.views.group_N.device)
