"""All terms of a step. The vectors of each field are gathered once, and each row gets one gradient over all terms.

An item may have several rows of a field. The loss of a term is then the mean over all combinations of a row number of
one field and a row number of the other. Each combination has one row per item.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from tercet.data_pipelines.sample import Batch
from tercet.distributed import World
from tercet.modality import is_negative
from tercet.models.config import TermConfig
from tercet.models.losses import Objective, build_objective
from tercet.models.losses.kernel import Anchors, Pair, Side, contrast, first_pass

Temperatures = Mapping[str, tuple[Tensor, Tensor | None]]  # scale and bias by term


@dataclass(frozen=True)
class Gathered:
    """The rows of a field over all ranks, in the order of their items.

    `id_N` are the ids of their samples. Frozen rows have no gradient, no item and no rank: both numbers are −1.
    """

    z_Nd: Tensor
    item_N: Tensor
    group_N: Tensor
    id_N: Tensor
    rank_N: Tensor

    @property
    def row_N(self) -> Tensor:
        """The number of each row among the rows of its item, from 0."""
        first_N = torch.searchsorted(self.item_N, self.item_N)
        return torch.arange(len(first_N), device=first_N.device) - first_N


def own_rows(rank_N: Tensor, rank: int) -> slice:
    """The rows of a rank, which are next to each other."""
    before = int((rank_N < rank).sum())
    return slice(before, before + int((rank_N == rank).sum()))


@dataclass(frozen=True)
class Direction:
    """The anchors of one direction of a term over all ranks, with their items and samples."""

    field: str
    item_N: Tensor
    id_N: Tensor
    anchors: Anchors


@dataclass(frozen=True)
class Outcome:
    """The losses over all ranks, and the gradients of their weighted sum: own rows by field, scale and bias by term.

    `gathered` has the vectors of all ranks by field, `directions` the results of every anchor by term.
    """

    loss: Tensor
    losses: dict[str, Tensor]
    rows: dict[str, Tensor]
    temperatures: dict[str, tuple[Tensor, Tensor]]
    gathered: dict[str, Gathered]
    directions: dict[str, list[Direction]]


def gather(batch: Batch, name: str, z_nd: Tensor, rows: int, world: World) -> Gathered:
    """Gathers a field. All ranks have the same number of items, so each pads the field to `rows` per item."""
    capacity, field = len(batch) * rows, batch.fields[name]
    z_bd = z_nd.new_zeros(capacity, z_nd.shape[1])
    z_bd[: len(z_nd)] = z_nd
    mark_b4 = torch.full((capacity, 4), -1, dtype=torch.int64, device=z_nd.device)
    mark_b4[: len(z_nd), 0] = field.item + world.rank * len(batch)
    mark_b4[: len(z_nd), 1] = batch.groups[field.item]
    mark_b4[: len(z_nd), 2] = batch.ids[field.item]
    mark_b4[: len(z_nd), 3] = world.rank
    z_Nd, mark_N4 = world.gather(z_bd), world.gather(mark_b4)
    exists_N = mark_N4[:, 0] >= 0
    return Gathered(z_Nd[exists_N], *mark_N4[exists_N].T.contiguous())


@dataclass(frozen=True)
class Drawn:
    """One side of a pair: its rows over all ranks, their items and samples, and which of the own rows it has."""

    field: str
    side: Side
    item_N: Tensor
    id_N: Tensor
    own_n: Tensor

    def direction(self, anchors: Anchors) -> Direction:
        return Direction(self.field, self.item_N, self.id_N, anchors)


def draw(name: str, rows: Gathered, row: int, other: Gathered, other_row: int, rank: int) -> Drawn:
    """The rows with number `row` whose item also has row `other_row` of the other field."""
    partners = other.item_N[other.row_N == other_row]
    among_N = (rows.row_N == row) & torch.isin(rows.item_N, partners)
    own = own_rows(rows.rank_N[among_N], rank)
    side = Side(rows.z_Nd[among_N], rows.group_N[among_N], own)
    return Drawn(name, side, rows.item_N[among_N], rows.id_N[among_N], among_N[rows.rank_N == rank])


def extra(name: str, rows: Gathered, rank: int) -> Side:
    """Rows as extra negatives. A wrong caption of an item is wrong for its whole group, so it repels all of it."""
    return Side(rows.z_Nd, None if is_negative(name) else rows.group_N, own_rows(rows.rank_N, rank))


class Terms:
    """The terms that a step trains. `rows`: how many rows of a field an item may have, if more than one."""

    def __init__(self, configs: Sequence[TermConfig], tile: int, rows: Mapping[str, int] | None = None) -> None:
        self.configs, self.tile, self.rows = tuple(configs), tile, rows or {}
        self.objectives: dict[str, Objective] = {term.name: build_objective(term.objective) for term in configs}

    @torch.no_grad()
    def __call__(
        self,
        batch: Batch,
        vectors: Mapping[str, Tensor],
        temperatures: Temperatures,
        world: World,
        frozen: Mapping[str, Gathered] | None = None,
    ) -> Outcome:
        """`vectors` has the existing rows of each field. `frozen` rows get no gradient, such as those of a queue."""
        fields = self._gather(batch, vectors, world)
        known = {**(frozen or {}), **fields}
        gradients = {name: torch.zeros_like(z_nd) for name, z_nd in vectors.items()}
        losses: dict[str, Tensor] = {}
        slopes: dict[str, tuple[Tensor, Tensor]] = {}
        directions: dict[str, list[Direction]] = {}
        for term in self.configs:
            zero = temperatures[term.name][0].new_zeros(())
            loss, scale, bias, directions[term.name] = zero, zero, zero, []
            pairs = self._pairs(term, known, temperatures, world)
            for x, y, pair in pairs:
                found = contrast(self.objectives[term.name], pair, world)
                weight = term.weight / len(pairs)
                gradients[x.field][x.own_n] += weight * found.x_Ad
                gradients[y.field][y.own_n] += weight * found.y_Ad
                for anchor, more in ((x.field, found.more_y), (y.field, found.more_x)):
                    for name, slope_nd in zip(term.against.get(anchor, ()), more, strict=True):
                        if name in gradients:
                            gradients[name] += weight * slope_nd
                loss = loss + found.loss / len(pairs)
                scale, bias = scale + weight * found.scale, bias + weight * found.bias
                directions[term.name] += _directions(x, y, found.anchors)
            losses[term.name], slopes[term.name] = loss, (scale, bias)
        total = torch.stack([term.weight * losses[term.name] for term in self.configs]).sum()
        return Outcome(total, losses, gradients, slopes, fields, directions)

    @torch.no_grad()
    def item_losses(
        self,
        batch: Batch,
        vectors: Mapping[str, Tensor],
        temperatures: Temperatures,
        world: World,
        frozen: Mapping[str, Gathered] | None = None,
    ) -> Tensor:
        """The loss of every item over all ranks `[B · ranks]`: the weighted mean over the terms that include it.

        Runs only the first pass of the kernel. The loss of an item in no term is NaN.
        """
        fields = self._gather(batch, vectors, world)
        losses_B = torch.zeros(len(batch) * world.size, device=world.device)
        weights_B = torch.zeros_like(losses_B)
        for term in self.configs:
            pairs = self._pairs(term, {**(frozen or {}), **fields}, temperatures, world)
            for x, _, pair in pairs:
                weight = term.weight / len(pairs)
                loss_N = _item_losses(self.objectives[term.name], pair, world)
                losses_B[x.item_N] += weight * loss_N.to(losses_B)
                weights_B[x.item_N] += weight
        return losses_B / weights_B

    def _gather(self, batch: Batch, vectors: Mapping[str, Tensor], world: World) -> dict[str, Gathered]:
        return {name: gather(batch, name, z_nd, self.rows.get(name, 1), world) for name, z_nd in vectors.items()}

    def _pairs(
        self, term: TermConfig, known: Mapping[str, Gathered], temperatures: Temperatures, world: World
    ) -> list[tuple[Drawn, Drawn, Pair]]:
        one, other = term.between
        more_y, more_x = (
            tuple(extra(name, known[name], world.rank) for name in term.against.get(anchor, ()))
            for anchor in term.between
        )
        pairs = []
        for row, other_row in product(range(self.rows.get(one, 1)), range(self.rows.get(other, 1))):
            x = draw(one, known[one], row, known[other], other_row, world.rank)
            y = draw(other, known[other], other_row, known[one], row, world.rank)
            pairs.append((x, y, Pair(x.side, y.side, *temperatures[term.name], self.tile, more_y, more_x)))
        return pairs


def _directions(x: Drawn, y: Drawn, anchors: tuple[Anchors, Anchors | None]) -> list[Direction]:
    """Both directions, or x alone: a symmetric objective counts every entry there."""
    return [drawn.direction(found) for drawn, found in zip((x, y), anchors, strict=True) if found is not None]


def _item_losses(objective: Objective, pair: Pair, world: World) -> Tensor:
    """The contribution of each item's anchors in both directions to the loss, times the number of items."""
    turns = (pair, pair.turned()) if objective.symmetric else (pair,)
    found = [anchors for turn in turns for anchors in first_pass(objective, turn, world) if anchors is not None]
    loss_N = torch.stack([anchors.loss_N for anchors in found]).sum(dim=0)
    return loss_N * len(loss_N) / len(turns)
