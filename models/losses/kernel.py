"""The tiled kernel: the loss and exact gradients of any pair objective, without storing the matrix of logits.

Each rank compares its own rows with all keys, one tile of columns at a time. The first pass reduces every row. The
ranks then exchange these few vectors, and the second pass computes the whole gradient of the rank's own rows, as
anchors of one direction and as keys of the other. Memory is linear in the batch, and ranks exchange features once. A
single process computes both directions from the same tile.

Extra negatives (wrong captions, a queue) are additional columns for the anchors of one side. If they need a gradient,
the rank that owns them computes it.

Shapes: N rows of all ranks, A of them this rank's own, K keys of one tile, M extra negatives, d dimensions.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tercet.distributed import World
from tercet.models.losses.objective import Objective, Row


@dataclass(frozen=True)
class Side:
    """Unit rows of all ranks, and which of them this rank owns. No rank owns frozen rows.

    Rows of an anchor's group are never its negatives. Without groups, every row may be a negative.
    """

    z_Nd: Tensor
    group_N: Tensor | None
    own: slice

    @property
    def z_Ad(self) -> Tensor:
        return self.z_Nd[self.own]


@dataclass(frozen=True)
class Block:
    """One matrix of logits: own rows of `p` against all rows of `q`. `paired`: row k of both is the same item."""

    p: Side
    q: Side
    scale: Tensor
    bias: Tensor | None
    tile: int
    paired: bool

    def turned(self) -> "Block":
        return Block(self.q, self.p, self.scale, self.bias, self.tile, self.paired)

    def tiles(self) -> Iterator[tuple[slice, Tensor]]:
        """Scaled and shifted similarities; −inf where the two rows are different items of one group."""
        anchors_Ad = self.p.z_Ad * self.scale
        masks = self._masks()
        for start in range(0, len(self.q.z_Nd), self.tile):
            columns = slice(start, start + self.tile)
            logits_AK = anchors_Ad @ self.q.z_Nd[columns].T
            if self.bias is not None:
                logits_AK += self.bias
            if start // self.tile in masks:
                anchor_A, key_K = masks[start // self.tile]
                same_AK = anchor_A[:, None] == key_K
                if self.paired:
                    diagonal(same_AK, self.p.own, columns).fill_(False)
                logits_AK.masked_fill_(same_AK, -torch.inf)
            yield columns, logits_AK

    def _masks(self) -> Mapping[int, tuple[Tensor, Tensor]]:
        """The groups of the anchors and of the keys of each tile that needs a mask, by the number of the tile."""
        if self.p.group_N is None or self.q.group_N is None:
            return {}
        if self.paired:
            _, index_N, counts = torch.unique(self.q.group_N, return_inverse=True, return_counts=True)
            shared_N = counts[index_N] > 1
        else:
            shared_N = torch.isin(self.q.group_N, self.p.group_N)
        tiles = set((torch.nonzero(shared_N).flatten() // self.tile).tolist())
        anchors_A, keys_N = self.p.group_N[self.p.own], self.q.group_N
        return {tile: (anchors_A, keys_N[tile * self.tile : (tile + 1) * self.tile]) for tile in tiles}


@dataclass(frozen=True)
class Pair:
    """Row k of `x` and row k of `y` belong together. `more_y`: extra negatives for anchors of x, `more_x`: of y."""

    x: Side
    y: Side
    scale: Tensor
    bias: Tensor | None
    tile: int
    more_y: tuple[Side, ...] = ()
    more_x: tuple[Side, ...] = ()

    @property
    def block(self) -> Block:
        return Block(self.x, self.y, self.scale, self.bias, self.tile, paired=True)

    def turned(self) -> "Pair":
        return Pair(self.y, self.x, self.scale, self.bias, self.tile, self.more_x, self.more_y)

    @property
    def x_extra(self) -> list[Block]:
        """The extra negatives of the anchors of x."""
        return self._extra(self.x, self.more_y)

    @property
    def y_extra(self) -> list[Block]:
        return self._extra(self.y, self.more_x)

    def _extra(self, anchors: Side, more: tuple[Side, ...]) -> list[Block]:
        return [Block(anchors, side, self.scale, self.bias, self.tile, paired=False) for side in more]


@dataclass(frozen=True)
class Anchors:
    """The anchors of one direction, over all ranks: positive logit, reduction, and weight in the loss."""

    positive_N: Tensor
    reduced_N: Tensor
    weight_N: Tensor

    @property
    def loss_N(self) -> Tensor:
        """The contribution of each anchor to the loss."""
        return self.weight_N * (self.reduced_N - self.positive_N)

    def loss(self) -> Tensor:
        return self.loss_N.sum()


@dataclass(frozen=True)
class Contrast:
    """The loss over all ranks, and its gradients: for this rank's own rows, and for scale and bias over all ranks.

    A symmetric objective has anchors of x only.
    """

    loss: Tensor
    x_Ad: Tensor
    y_Ad: Tensor
    more_x: list[Tensor]
    more_y: list[Tensor]
    scale: Tensor
    bias: Tensor
    anchors: tuple[Anchors, Anchors | None]


@torch.no_grad()
def contrast(objective: Objective, pair: Pair, world: World) -> Contrast:
    """The loss of a pair and all of its gradients. They are exactly zero if no item has both fields."""
    x_anchors, y_anchors = first_pass(objective, pair, world)
    paired_y = None if objective.symmetric else y_anchors
    x_Ad, y_Ad, slope = second_pass(objective, pair.block, x_anchors, paired_y, world)
    for anchors in (x_anchors, paired_y):
        if anchors is not None:
            x_Ad -= anchors.weight_N[pair.x.own, None] * pair.y.z_Ad
            y_Ad -= anchors.weight_N[pair.y.own, None] * pair.x.z_Ad
            slope -= anchors.weight_N[pair.x.own].sum()
    # S = s⟨x, y⟩ is bilinear: s·∂L/∂s = Σ ⟨x, ∂L/∂x⟩, and ∂L/∂x is s times the sum so far.
    share = (pair.x.z_Ad * x_Ad).sum()
    more: dict[str, list[Tensor]] = {"x": [], "y": []}
    extras: list[tuple[Block, str, Anchors | None, Tensor]]
    extras = [(block, "y", x_anchors, x_Ad) for block in pair.x_extra]
    extras += [(block, "x", y_anchors, y_Ad) for block in pair.y_extra]
    for block, name, anchors, into_Ad in extras:
        rows_Ad, keys_Ad, further = second_pass(objective, block, anchors, None, world)
        more[name].append(keys_Ad.mul_(pair.scale))
        into_Ad += rows_Ad
        share += (block.p.z_Ad * rows_Ad).sum()
        slope += further
    scale, bias = world.sum(torch.stack([share, slope]))
    loss = torch.stack([anchors.loss() for anchors in (x_anchors, y_anchors) if anchors is not None]).sum()
    x_Ad, y_Ad = x_Ad.mul_(pair.scale), y_Ad.mul_(pair.scale)
    return Contrast(loss, x_Ad, y_Ad, more["x"], more["y"], scale, bias, (x_anchors, y_anchors))


def first_pass(objective: Objective, pair: Pair, world: World) -> tuple[Anchors, Anchors | None]:
    """Reduces every row of every rank. A symmetric objective counts each entry once, in the rows of x."""
    alone = world.size == 1 and not objective.symmetric
    x_A, x_positive_A, y_A = reduce_rows(objective, pair.block, columns_too=alone)
    x_A = with_extra(objective, x_A, pair.x_extra)
    if objective.symmetric:
        x_anchors = exchange(objective, pair.x, x_positive_A, x_A, 1.0, world)
        if not pair.more_x:
            return x_anchors, None
        nothing_A = pair.y.z_Nd.new_zeros(len(pair.y.z_Ad))
        return x_anchors, exchange(objective, pair.y, nothing_A, with_extra(objective, None, pair.y_extra), 1.0, world)
    y_positive_A = x_positive_A
    if not alone:
        y_A, y_positive_A, _ = reduce_rows(objective, pair.block.turned(), columns_too=False)
    y_A = with_extra(objective, y_A, pair.y_extra)
    x_anchors = exchange(objective, pair.x, x_positive_A, x_A, 0.5, world)
    return x_anchors, exchange(objective, pair.y, y_positive_A, y_A, 0.5, world)


def reduce_rows(objective: Objective, block: Block, columns_too: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Reduces own rows over all keys. Returns also their positive logits and, with `columns_too`, each reduced column.

    Positive logits come from the same matrix product as the reduction, so that no probability exceeds 1.
    """
    rows_A: Tensor | None = None
    positive_A = block.p.z_Nd.new_zeros(len(block.p.z_Ad))
    columns_N = block.q.z_Nd.new_zeros(len(block.q.z_Nd) if columns_too else 0)
    for columns, logits_AK in block.tiles():
        rows = diagonal_rows(block.p.own, columns, logits_AK.shape[1])
        positive_A[rows] = diagonal(logits_AK, block.p.own, columns)
        tile_A = objective.reduce(logits_AK)
        rows_A = tile_A if rows_A is None else objective.merge(rows_A, tile_A)
        if columns_too:
            columns_N[columns] = objective.reduce(logits_AK.T)
    return torch.zeros_like(positive_A) if rows_A is None else rows_A, positive_A, columns_N


def diagonal(tile_AK: Tensor, own: slice, columns: slice) -> Tensor:
    """A view of the entries of a tile whose row and column belong to the same item."""
    rows = diagonal_rows(own, columns, tile_AK.shape[1])
    first = own.start + rows.start - columns.start
    return tile_AK[rows, first : first + rows.stop - rows.start].diagonal()


def diagonal_rows(own: slice, columns: slice, width: int) -> slice:
    """The own rows whose item is among the columns of the tile."""
    begin = max(own.start, columns.start)
    return slice(begin - own.start, max(begin, min(own.stop, columns.start + width)) - own.start)


def with_extra(objective: Objective, reduced_A: Tensor | None, extra: list[Block]) -> Tensor:
    """The reduction of own rows, extended to the extra negatives."""
    for block in extra:
        for _, logits_AK in block.tiles():
            tile_A = objective.reduce(logits_AK)
            reduced_A = tile_A if reduced_A is None else objective.merge(reduced_A, tile_A)
    return extra[0].p.z_Nd.new_zeros(len(extra[0].p.z_Ad)) if reduced_A is None else reduced_A


def exchange(
    objective: Objective, side: Side, positive_A: Tensor, reduced_A: Tensor, share: float, world: World
) -> Anchors:
    """Gives every rank the results of all rows."""
    weight_A = objective.row_weight(Row(positive_A, reduced_A))
    weight_A = torch.ones_like(reduced_A) if weight_A is None else weight_A.to(reduced_A)
    known = side.z_Nd.new_zeros(3, len(side.z_Nd))
    known[:, side.own] = torch.stack([positive_A, reduced_A, weight_A * (share / max(len(side.z_Nd), 1))])
    return Anchors(*world.sum(known))


def second_pass(
    objective: Objective, block: Block, anchors: Anchors | None, keys: Anchors | None, world: World
) -> tuple[Tensor, Tensor, Tensor]:
    """The repelling gradients of own rows of p and q, without the factor s, and the sum of the slopes over p's rows."""
    if world.size == 1:
        p_Ad, q_Nd, slope = push(objective, block, anchors, keys, keys_too=len(block.q.z_Ad) > 0)
        return p_Ad, q_Nd[block.q.own], slope
    p_Ad, _, slope = push(objective, block, anchors, keys, keys_too=False)
    q_Ad, _, _ = push(objective, block.turned(), keys, anchors, keys_too=False)
    return p_Ad, q_Ad, slope


def push(
    objective: Objective, block: Block, anchors: Anchors | None, keys: Anchors | None, keys_too: bool
) -> tuple[Tensor, Tensor, Tensor]:
    p_Ad = torch.zeros_like(block.p.z_Ad)
    q_Nd = torch.zeros_like(block.q.z_Nd) if keys_too else block.q.z_Nd[:0]
    slope = p_Ad.new_zeros(())
    for columns, logits_AK in block.tiles():
        slope_AK = weighted_slope(objective, logits_AK, anchors, keys, block.p.own, columns)
        p_Ad.addmm_(slope_AK, block.q.z_Nd[columns])
        if keys_too:
            torch.mm(slope_AK.T, block.p.z_Ad, out=q_Nd[columns])
        slope += slope_AK.sum()
    return p_Ad, q_Nd, slope


def weighted_slope(
    objective: Objective, logits_AK: Tensor, anchors: Anchors | None, keys: Anchors | None, own: slice, columns: slice
) -> Tensor:
    """The derivative of the loss by each logit: through the reduction of its row, of its column, or of both."""
    slopes = []
    if anchors is not None:
        slopes += [objective.slope(logits_AK, anchors.reduced_N[own, None]).mul_(anchors.weight_N[own, None])]
    if keys is not None:
        slopes += [objective.slope(logits_AK, keys.reduced_N[None, columns]).mul_(keys.weight_N[None, columns])]
    return slopes[0] if len(slopes) == 1 else slopes[0].add_(slopes[1])
