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
from tercet.models.losses.kernel import Pair, contrast, item_losses
from tercet.models.losses.objective import Anchors
from tercet.models.losses.rows import Rows

Temperatures = Mapping[str, tuple[Tensor, Tensor | None]]  # scale and bias by term


@dataclass(frozen=True)
class Outcome:
    """The losses over all ranks, and the gradients of their weighted sum: own rows by field, scale and bias by term.

    `gathered` has the vectors of all ranks by field, `anchors` the results of the anchors
    of each direction by term.
    """

    loss: Tensor
    losses: dict[str, Tensor]
    rows: dict[str, Tensor]
    temperatures: dict[str, tuple[Tensor, Tensor]]
    gathered: dict[str, Rows]
    anchors: dict[str, list[Anchors]]


def gather(batch: Batch, name: str, z_nd: Tensor, rows: int, world: World) -> Rows:
    """Gathers a field. All ranks have the same number of items, so each pads the field to `rows` per item."""
    capacity, field = len(batch) * rows, batch.fields[name]
    z_bd = z_nd.new_zeros(capacity, z_nd.shape[1])
    z_bd[: len(z_nd)] = z_nd
    mark_b3 = torch.full((capacity, 3), -1, dtype=torch.int64, device=z_nd.device)
    mark_b3[: len(z_nd), 0] = field.item + world.rank * len(batch)
    mark_b3[: len(z_nd), 1] = batch.groups[field.item]
    mark_b3[: len(z_nd), 2] = batch.ids[field.item]
    own = slice(world.rank * capacity, (world.rank + 1) * capacity)
    z_Nd, mark_N3 = world.gather(z_bd), world.gather(mark_b3)
    return Rows(z_Nd, own, *mark_N3.T.contiguous()).pick(mark_N3[:, 0] >= 0)


@dataclass(frozen=True)
class Drawn:
    """One side of a pair: the rows of a field that take part, and which of this rank's rows they are."""

    field: str
    rows: Rows
    own_n: Tensor


def draw(name: str, rows: Rows, row: int, other: Rows, other_row: int) -> Drawn:
    """The rows with number `row` whose item also has row `other_row` of the other field."""
    partners = other.item_N[other.number_N == other_row]
    among_N = (rows.number_N == row) & torch.isin(rows.item_N, partners)
    return Drawn(name, rows.pick(among_N), among_N[rows.own])


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
        frozen: Mapping[str, Rows] | None = None,
    ) -> Outcome:
        """`vectors` has the existing rows of each field. `frozen` rows get no gradient, such as those of a queue."""
        fields = self._gather(batch, vectors, world)
        known = {**(frozen or {}), **fields}
        gradients = {name: torch.zeros_like(z_nd) for name, z_nd in vectors.items()}
        losses: dict[str, Tensor] = {}
        slopes: dict[str, tuple[Tensor, Tensor]] = {}
        anchors: dict[str, list[Anchors]] = {}
        for term in self.configs:
            zero = temperatures[term.name][0].new_zeros(())
            loss, scale, bias, anchors[term.name] = zero, zero, zero, []
            pairs = self._pairs(term, known, temperatures)
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
                anchors[term.name] += found.anchors
            losses[term.name], slopes[term.name] = loss, (scale, bias)
        total = torch.stack([term.weight * losses[term.name] for term in self.configs]).sum()
        return Outcome(total, losses, gradients, slopes, fields, anchors)

    @torch.no_grad()
    def item_losses(
        self,
        batch: Batch,
        vectors: Mapping[str, Tensor],
        temperatures: Temperatures,
        world: World,
        frozen: Mapping[str, Rows] | None = None,
    ) -> Tensor:
        """The loss of every item over all ranks `[B · ranks]`: the weighted mean over the terms that include it.

        Runs only the first pass of the kernel. The loss of an item in no term is NaN.
        """
        fields = self._gather(batch, vectors, world)
        losses_B = torch.zeros(len(batch) * world.size, device=world.device)
        weights_B = torch.zeros_like(losses_B)
        for term in self.configs:
            pairs = self._pairs(term, {**(frozen or {}), **fields}, temperatures)
            for x, _, pair in pairs:
                weight = term.weight / len(pairs)
                loss_N = item_losses(self.objectives[term.name], pair, world)
                losses_B[x.rows.item_N] += weight * loss_N.to(losses_B)
                weights_B[x.rows.item_N] += weight
        return losses_B / weights_B

    def _gather(self, batch: Batch, vectors: Mapping[str, Tensor], world: World) -> dict[str, Rows]:
        return {name: gather(batch, name, z_nd, self.rows.get(name, 1), world) for name, z_nd in vectors.items()}

    def _pairs(
        self, term: TermConfig, known: Mapping[str, Rows], temperatures: Temperatures
    ) -> list[tuple[Drawn, Drawn, Pair]]:
        one, other = term.between
        more_y, more_x = (
            tuple(known[name].negatives(declared=is_negative(name)) for name in term.against.get(anchor, ()))
            for anchor in term.between
        )
        pairs = []
        for row, other_row in product(range(self.rows.get(one, 1)), range(self.rows.get(other, 1))):
            x = draw(one, known[one], row, known[other], other_row)
            y = draw(other, known[other], other_row, known[one], row)
            pairs.append((x, y, Pair(x.rows, y.rows, *temperatures[term.name], self.tile, more_y, more_x)))
        return pairs
