"""All terms of a step: each field's vectors gathered once, each term's pairs drawn from them, one gradient per row.

An item may own several rows of a field. A term between fields of several rows is the mean over the terms between their
first rows, their second rows and so on, each with one row an item.
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
    """A field's rows of all ranks, in the order of their items over all ranks.

    `id_N` are the ids of their samples. Frozen rows, which carry no gradient, are of no item and no rank: both are −1.
    """

    z_Nd: Tensor
    item_N: Tensor
    group_N: Tensor
    id_N: Tensor
    rank_N: Tensor

    @property
    def row_N(self) -> Tensor:
        """Which of its item's rows each one is, from 0."""
        first_N = torch.searchsorted(self.item_N, self.item_N)
        return torch.arange(len(first_N), device=first_N.device) - first_N

    def own(self, rank: int) -> slice:
        before = int((self.rank_N < rank).sum())
        return slice(before, before + int((self.rank_N == rank).sum()))


@dataclass(frozen=True)
class Direction:
    """The anchors of one direction of a term over all ranks, and the item and the sample that each belongs to."""

    field: str
    item_N: Tensor
    id_N: Tensor
    anchors: Anchors


@dataclass(frozen=True)
class Outcome:
    """The losses over all ranks, and the weighted total's gradients: own rows by field, scale and bias by term.

    `gathered` holds the vectors of all ranks by field, `directions` what was found of every anchor by term.
    """

    loss: Tensor
    losses: dict[str, Tensor]
    rows: dict[str, Tensor]
    temperatures: dict[str, tuple[Tensor, Tensor]]
    gathered: dict[str, Gathered]
    directions: dict[str, list[Direction]]


def gather(batch: Batch, name: str, z_nd: Tensor, rows: int, world: World) -> Gathered:
    """Every rank holds equally many items, so a field is padded to `rows` an item and travels in one shape."""
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
    """One side of a pair: its rows of all ranks with their items and samples, and which of the own rows are in it."""

    field: str
    side: Side
    item_N: Tensor
    id_N: Tensor
    own_n: Tensor

    def direction(self, anchors: Anchors) -> Direction:
        return Direction(self.field, self.item_N, self.id_N, anchors)


def draw(name: str, rows: Gathered, row: int, other: Gathered, other_row: int, rank: int) -> Drawn:
    """The rows of this number whose item has the other field's row of that number."""
    partners = other.item_N[other.row_N == other_row]
    among_N = (rows.row_N == row) & torch.isin(rows.item_N, partners)
    rank_N = rows.rank_N[among_N]
    before, own = int((rank_N < rank).sum()), int((rank_N == rank).sum())
    side = Side(rows.z_Nd[among_N], rows.group_N[among_N], slice(before, before + own))
    return Drawn(name, side, rows.item_N[among_N], rows.id_N[among_N], among_N[rows.rank_N == rank])


def extra(name: str, rows: Gathered, rank: int) -> Side:
    """Rows as extra negatives. What is wrong about an item is wrong about its whole group, and repels all of it."""
    return Side(rows.z_Nd, None if is_negative(name) else rows.group_N, rows.own(rank))


class Terms:
    """What a step trains. `rows`: how many rows an item may own of a field, where that is more than one."""

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
        """`vectors` holds exactly the rows that exist, by field; `frozen` rows without a gradient, as a queue's."""
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
                extras = (term.against.get(x.field, ()), found.more_y), (term.against.get(y.field, ()), found.more_x)
                for names, more in extras:
                    for name, slope_nd in zip(names, more, strict=True):
                        if name in gradients:
                            gradients[name] += weight * slope_nd
                loss, scale, bias = (
                    loss + found.loss / len(pairs),
                    scale + weight * found.scale,
                    bias + weight * found.bias,
                )
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
        """Every item's own loss, over all ranks `[B · ranks]`: the mean, by weight, over the terms that it is in.

        Needs the first pass of the kernel only. The loss of an item that is in no term is NaN.
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
    """A symmetric objective counts every entry on x's side."""
    return [drawn.direction(found) for drawn, found in zip((x, y), anchors, strict=True) if found is not None]


def _item_losses(objective: Objective, pair: Pair, world: World) -> Tensor:
    """Per item of a pair, what its anchors of both directions add to the loss, times the number of items."""
    turns = (pair, pair.turned()) if objective.symmetric else (pair,)
    found = [anchors for turn in turns for anchors in first_pass(objective, turn, world) if anchors is not None]
    loss_N = torch.stack([anchors.loss_N for anchors in found]).sum(dim=0)
    return loss_N * len(loss_N) / len(turns)
