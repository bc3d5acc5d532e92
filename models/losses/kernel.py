"""The one tiled kernel: loss and exact gradients of any pair objective, without ever holding the matrix of logits.

Each rank streams its own rows against all keys, one tile of columns at a time: first to reduce every row, then, once
the ranks have exchanged those few vectors, to form the whole gradient of its own rows, as anchors of one direction and
as keys of the other. Memory is linear in the batch, and features travel once. A process that owns all rows serves both
directions from the same tile.

Shapes: N rows of all ranks, A of them this rank's own, K keys of one tile, d dimensions.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tercet.distributed import World
from tercet.models.losses.objective import Objective, Row


@dataclass(frozen=True)
class Side:
    """One field's unit rows of all ranks; row k of either side belongs to the same item."""

    z_Nd: Tensor
    group_N: Tensor
    own: slice

    @property
    def z_Ad(self) -> Tensor:
        return self.z_Nd[self.own]


@dataclass(frozen=True)
class Pair:
    """Two sides, and how their similarities become logits: scaled, shifted, −inf between different items of a group."""

    x: Side
    y: Side
    scale: Tensor
    bias: Tensor | None
    tile: int

    def turned(self) -> "Pair":
        return Pair(self.y, self.x, self.scale, self.bias, self.tile)

    def positives(self) -> Tensor:
        logits_A: Tensor = (self.x.z_Ad * self.y.z_Ad).sum(dim=1) * self.scale
        return logits_A if self.bias is None else logits_A + self.bias

    def tiles(self) -> Iterator[tuple[slice, Tensor]]:
        """The logits of x's own rows against all rows of y."""
        anchors_Ad = self.x.z_Ad * self.scale
        crowded = set((repeated(self.y.group_N) // self.tile).tolist())
        for start in range(0, len(self.y.z_Nd), self.tile):
            columns = slice(start, start + self.tile)
            logits_AK = anchors_Ad @ self.y.z_Nd[columns].T
            if self.bias is not None:
                logits_AK += self.bias
            if start // self.tile in crowded:
                logits_AK.masked_fill_(self.one_group(columns), -torch.inf)
            yield columns, logits_AK

    def one_group(self, columns: slice) -> Tensor:
        """Where an own row and a key of the tile are different items of the same group."""
        rows = self.x.own
        same_AK = self.x.group_N[rows, None] == self.y.group_N[None, columns]
        index_N = torch.arange(len(self.y.z_Nd), device=same_AK.device)
        return same_AK & (index_N[rows, None] != index_N[None, columns])


def repeated(group_N: Tensor) -> Tensor:
    """The rows that share their group with another row."""
    _, index_N, counts = torch.unique(group_N, return_inverse=True, return_counts=True)
    return torch.nonzero(counts[index_N] > 1).flatten()


@dataclass(frozen=True)
class Anchors:
    """One direction's anchors of all ranks: positive logit, reduction, and the share of the loss that each carries."""

    positive_N: Tensor
    reduced_N: Tensor
    weight_N: Tensor

    def loss(self) -> Tensor:
        return (self.weight_N * (self.reduced_N - self.positive_N)).sum()


@dataclass(frozen=True)
class Contrast:
    """The loss over all ranks and its gradients: of this rank's own rows, and of the scale and bias over all ranks."""

    loss: Tensor
    x_Ad: Tensor
    y_Ad: Tensor
    scale: Tensor
    bias: Tensor


@torch.no_grad()
def contrast(objective: Objective, pair: Pair, world: World) -> Contrast:
    """A pair's loss with all of its gradients. Where no item has both fields they are exact zeros."""
    x_anchors, y_anchors = first_pass(objective, pair, world)
    directions = [anchors for anchors in (x_anchors, y_anchors) if anchors is not None]
    x_Ad, y_Ad, slope = second_pass(objective, pair, x_anchors, y_anchors, world)
    for anchors in directions:
        x_Ad -= anchors.weight_N[pair.x.own, None] * pair.y.z_Ad
        y_Ad -= anchors.weight_N[pair.y.own, None] * pair.x.z_Ad
        slope -= anchors.weight_N[pair.x.own].sum()
    # S = s⟨x, y⟩ is bilinear: s·∂L/∂s = Σ ⟨x, ∂L/∂x⟩, and ∂L/∂x is s times what has been summed so far.
    scale, bias = world.sum(torch.stack([(pair.x.z_Ad * x_Ad).sum(), slope]))
    loss = torch.stack([anchors.loss() for anchors in directions]).sum()
    return Contrast(loss, x_Ad.mul_(pair.scale), y_Ad.mul_(pair.scale), scale, bias)


def first_pass(objective: Objective, pair: Pair, world: World) -> tuple[Anchors, Anchors | None]:
    """Reduces every row of every rank; a symmetric objective needs the one direction only."""
    positive_A = pair.positives()
    alone = world.size == 1 and not objective.symmetric
    x_A, y_A = reduce_rows(objective, pair, columns_too=alone)
    if objective.symmetric:
        return exchange(objective, pair.x, positive_A, x_A, 1.0, world), None
    if not alone:
        y_A, _ = reduce_rows(objective, pair.turned(), columns_too=False)
    x_anchors = exchange(objective, pair.x, positive_A, x_A, 0.5, world)
    return x_anchors, exchange(objective, pair.y, positive_A, y_A, 0.5, world)


def reduce_rows(objective: Objective, pair: Pair, columns_too: bool) -> tuple[Tensor, Tensor]:
    """The reduction of x's own rows over all keys and, where these are all the rows, of each key over them."""
    rows_A: Tensor | None = None
    columns_N = pair.y.z_Nd.new_zeros(len(pair.y.z_Nd))
    for columns, logits_AK in pair.tiles():
        tile_A = objective.reduce(logits_AK)
        rows_A = tile_A if rows_A is None else objective.merge(rows_A, tile_A)
        if columns_too:
            columns_N[columns] = objective.reduce(logits_AK.T)
    return (columns_N.new_zeros(0) if rows_A is None else rows_A), columns_N


def exchange(
    objective: Objective, side: Side, positive_A: Tensor, reduced_A: Tensor, share: float, world: World
) -> Anchors:
    """Own rows' results, known to every rank."""
    weight_A = objective.row_weight(Row(positive_A, reduced_A))
    weight_A = torch.ones_like(reduced_A) if weight_A is None else weight_A.to(reduced_A)
    known = side.z_Nd.new_zeros(3, len(side.z_Nd))
    known[:, side.own] = torch.stack([positive_A, reduced_A, weight_A * (share / max(len(side.z_Nd), 1))])
    return Anchors(*world.sum(known))


def second_pass(
    objective: Objective, pair: Pair, x_anchors: Anchors, y_anchors: Anchors | None, world: World
) -> tuple[Tensor, Tensor, Tensor]:
    """What repels own rows of x and of y, before the factor s, and the sum of all slopes over x's own rows."""
    if world.size == 1:
        return push(objective, pair, x_anchors, y_anchors, keys_too=True)
    x_Ad, _, slope = push(objective, pair, x_anchors, y_anchors, keys_too=False)
    y_Ad, _, _ = push(objective, pair.turned(), y_anchors, x_anchors, keys_too=False)
    return x_Ad, y_Ad, slope


def push(
    objective: Objective, pair: Pair, anchors: Anchors | None, keys: Anchors | None, keys_too: bool
) -> tuple[Tensor, Tensor, Tensor]:
    x_Ad, y_Nd = torch.zeros_like(pair.x.z_Ad), torch.zeros_like(pair.y.z_Nd) if keys_too else pair.y.z_Nd[:0]
    slope = x_Ad.new_zeros(())
    for columns, logits_AK in pair.tiles():
        slope_AK = weighted_slope(objective, logits_AK, anchors, keys, pair.x.own, columns)
        x_Ad.addmm_(slope_AK, pair.y.z_Nd[columns])
        if keys_too:
            torch.mm(slope_AK.T, pair.x.z_Ad, out=y_Nd[columns])
        slope += slope_AK.sum()
    return x_Ad, y_Nd, slope


def weighted_slope(
    objective: Objective, logits_AK: Tensor, anchors: Anchors | None, keys: Anchors | None, own: slice, columns: slice
) -> Tensor:
    """What an entry adds to the loss as it grows: by its row's reduction, by its column's, or by both."""
    slopes = []
    if anchors is not None:
        slopes += [objective.slope(logits_AK, anchors.reduced_N[own, None]).mul_(anchors.weight_N[own, None])]
    if keys is not None:
        slopes += [objective.slope(logits_AK, keys.reduced_N[None, columns]).mul_(keys.weight_N[None, columns])]
    return slopes[0] if len(slopes) == 1 else slopes[0].add_(slopes[1])
