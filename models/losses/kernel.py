"""The tiled kernel: the loss and exact gradients of any pair objective, in memory that grows linearly with the batch.

Each rank compares its own rows with all keys, one tile of columns at a time. The first pass reduces the statistics of
every row. The ranks then exchange these few vectors, so that each has those of all anchors, and autograd differentiates
the objective's function of them: ∂L/∂S_ij is the sum over the statistics of ∂L/∂statistic_i · ∂statistic_i/∂S_ij. The
second pass computes the whole gradient of the rank's own rows, as anchors of one direction and as keys of the other.
It computes the logits again, unless there are so few that the kernel keeps them. Ranks exchange features once. A single
process computes both directions from the same tile.

Extra negatives (wrong captions, a queue) are additional columns for the anchors of one side. If they need a gradient,
the rank that owns them computes it.

Shapes: N rows of all ranks, A of them this rank's own, K keys of one tile, d dimensions.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tercet.distributed import World
from tercet.models.losses.anchors import Anchors, Side, Tile
from tercet.models.losses.rows import Rows
from tercet.models.losses.tiles import HARDEST, Block, Running, View

if TYPE_CHECKING:
    from tercet.models.losses.objective import Objective

Slopes = dict[Side, dict[str, Tensor]]  # ∂L/∂result of every anchor, by direction and name
KEPT = 2**24  # logits; 64 MiB in fp32


@dataclass(frozen=True)
class Pair:
    """Two fields to compare. `paired`: row k of x and row k of y are the same item, which has no other rows.

    `more_y` are extra negatives for anchors of x, `more_x` of y. `shares` are the weights of the two directions; one
    with weight 0 is not computed. The kernel keeps the logits of the first pass if a rank has at most `kept`.
    """

    x: Rows
    y: Rows
    scale: Tensor
    bias: Tensor | None
    tile: int
    more_y: tuple[Rows, ...] = ()
    more_x: tuple[Rows, ...] = ()
    shares: tuple[float, float] = (0.5, 0.5)
    paired: bool = True
    kept: int = KEPT

    def turned(self) -> "Pair":
        turned = replace(self, x=self.y, y=self.x, more_y=self.more_x, more_x=self.more_y)
        return replace(turned, shares=self.shares[::-1])

    def cosines(self) -> Tensor:
        """The cosine of each positive pair. Every rank has all rows, so nothing is exchanged."""
        return torch.bmm(self.x.z_Nd[:, None], self.y.z_Nd[:, :, None]).flatten()


@dataclass(frozen=True)
class Contrast:
    """The loss over all ranks, and its gradients: for this rank's own rows, and for scale and bias over all ranks.

    `anchors` has the results of each direction. A symmetric objective has anchors of x only.
    """

    loss: Tensor
    x_Ad: Tensor
    y_Ad: Tensor
    more_x: list[Tensor]
    more_y: list[Tensor]
    scale: Tensor
    bias: Tensor
    anchors: tuple[Anchors, ...]


@torch.no_grad()
def contrast(objective: "Objective", pair: Pair, world: World) -> Contrast:
    """The loss of a pair and all of its gradients. They are exactly zero if no item has both fields."""
    return Kernel(objective, pair, world).solve()


@torch.no_grad()
def item_losses(objective: "Objective", pair: Pair, world: World) -> Tensor:
    """The contribution of each item's anchors in both directions to the loss, times the number of items `[N]`."""
    turns = (pair, pair.turned()) if objective.symmetric else (pair,)
    found = [anchors for turn in turns for anchors in Kernel(objective, turn, world).first_pass().values()]
    loss_N = torch.stack([objective.weighted(anchors) for anchors in found]).sum(dim=0)
    return loss_N * len(loss_N) / len(turns)


@torch.no_grad()
def reduce_rows(
    objective: "Objective", anchors: Rows, keys: Rows, scale: Tensor, bias: Tensor | None, tile: int
) -> dict[str, Tensor]:
    """The statistics of this rank's own anchors over all keys `[A]`. Ranks exchange nothing.

    Keys of the anchor's item are its positives. So a selection can score candidates against what it has chosen.
    """
    pair = Pair(anchors, keys, scale, bias, tile, shares=(1.0, 0.0), paired=False)
    found = Kernel(objective, pair, World(device=anchors.z_Nd.device)).first_pass()["x"]
    return {name: value_N[anchors.own] for name, value_N in found.statistics.items()}


class Kernel:
    """The two passes over the tiles of a pair."""

    def __init__(self, objective: "Objective", pair: Pair, world: World) -> None:
        self.objective, self.world = objective, world
        cosine_N = pair.cosines() if pair.paired else None
        scale, self.factor = pair.scale.reshape(()), None if cosine_N is None else objective.scale_factor(cosine_N)
        self.pair = replace(pair, scale=scale if self.factor is None else scale * self.factor)
        self.positive_N = None if cosine_N is None else self._logits(cosine_N)
        x_share, y_share = (sum(pair.shares), 0.0) if objective.symmetric else pair.shares
        self.main = Block(pair.x, pair.y, "x" if x_share else None, "y" if y_share else None, pair.paired)
        self.x_extra = [Block(pair.x, more, "x") for more in pair.more_y]
        self.y_extra = [Block(pair.y, more, "y") for more in pair.more_x]
        self.shares: dict[Side, float] = {"x": x_share} if x_share else {}
        if y_share or self.y_extra:
            self.shares["y"] = y_share or x_share
        self.exact: dict[Side, dict[str, Tensor]] = {side: {} for side in self.shares}  # the results, in fp64
        self.keeps, self.kept = False, dict[tuple[int, int, int], Tensor]()  # by the rows and first column of a tile

    def solve(self) -> Contrast:
        blocks = [half for block in self._blocks() for half in self._halves(block)]
        self.keeps = sum(len(block.p.z_Ad) * len(block.q) for block in blocks) <= self.pair.kept
        pair, anchors = self.pair, self.first_pass()
        trained = [side for side in (self.main.forward, self.main.backward) if side]
        loss, slopes, scale_slope = self._differentiate()
        x_Ad, y_Ad, bias = self._push(self.main, slopes)
        if pair.paired:
            positive_N = torch.zeros_like(pair.x.z_Nd[:, 0])
            for side in trained:
                positive_N += slopes[side].get("positive", 0.0)
            x_Ad += positive_N[pair.x.own, None] * pair.y.z_Ad
            y_Ad += positive_N[pair.y.own, None] * pair.x.z_Ad
            bias += positive_N[pair.x.own].sum()
        # S = s⟨x, y⟩ is bilinear: s·∂L/∂s = Σ ⟨x, ∂L/∂x⟩, and ∂L/∂x is s times the sum so far.
        along = (pair.x.z_Ad * x_Ad).sum()
        more_y: list[Tensor] = []
        more_x: list[Tensor] = []
        for extra, into_Ad, more in ((self.x_extra, x_Ad, more_y), (self.y_extra, y_Ad, more_x)):
            for block in extra:
                rows_Ad, keys_Ad, further = self._push(block, slopes)
                more.append(keys_Ad.mul_(pair.scale))
                into_Ad += rows_Ad
                along += (block.p.z_Ad * rows_Ad).sum()
                bias += further
        along, bias = self.world.sum(torch.stack([along, bias]))
        scale = along + scale_slope if self.factor is None else (along + scale_slope) * self.factor
        directions = tuple(anchors[side] for side in trained)
        return Contrast(loss, x_Ad.mul_(pair.scale), y_Ad.mul_(pair.scale), more_x, more_y, scale, bias, directions)

    def first_pass(self) -> dict[Side, Anchors]:
        """The statistics of every anchor of every rank."""
        for stage in range(0 if self.objective.hardest is None else HARDEST, self.objective.stages):
            running = {side: Running() for side in self.shares}
            for block in self._blocks():
                self._reduce(block, stage, running)
            self._exchange({side: one.results() for side, one in running.items()})
        return {side: self._anchors(side, self._results(side)) for side in self.shares}

    def _blocks(self) -> list[Block]:
        return [self.main, *self.x_extra, *self.y_extra]

    def _halves(self, block: Block) -> list[Block]:
        """What a pass over the block walks through. A single process has both directions in each tile."""
        return [block] if self.world.size == 1 else block.halves()

    def _anchors(self, side: Side, results: dict[str, Tensor]) -> Anchors:
        results.pop("hardest", None)
        positive, negatives, masked = (results.pop(name) for name in ("positive", "negatives", "masked"))
        rows = self.pair.x if side == "x" else self.pair.y
        return Anchors(side, rows, results, positive, negatives, masked, self.pair.scale, self.shares[side])

    def _reduce(self, block: Block, stage: int, running: dict[Side, Running]) -> None:
        """Adds a block to the statistics of its anchors."""
        columns: list[Running] = []
        for one in self._halves(block):
            for _, forward, backward in self._views(one, stage):
                if forward:
                    running[forward.tile.side].add(forward)
                if backward:
                    columns.append(Running())
                    columns[-1].add(backward)
        if block.backward and columns:
            running[block.backward] = Running.joined(columns)

    def _exchange(self, found: Mapping[Side, Mapping[str, Tensor]]) -> None:
        """Gives every rank the results of all anchors, in fp64."""
        sent = []
        for side, results in found.items():
            rows = self.pair.x if side == "x" else self.pair.y
            whole = self.pair.scale.new_zeros(len(results), len(rows), dtype=torch.float64)
            whole[:, rows.own] = torch.stack([value_A.double() for value_A in results.values()])
            sent.append(whole)
        received = self.world.sum(torch.cat([whole.flatten() for whole in sent]))
        parts = torch.split(received, [whole.numel() for whole in sent])
        for (side, results), whole, part in zip(found.items(), sent, parts, strict=True):
            self.exact[side] |= dict(zip(results, part.view_as(whole), strict=True))

    def _results(self, side: Side) -> dict[str, Tensor]:
        """The results of all anchors of a direction so far, in the type of the logits."""
        return {name: value_N.to(self.pair.scale) for name, value_N in self.exact[side].items()}

    def _differentiate(self) -> tuple[Tensor, Slopes, Tensor]:
        """The loss, and its slopes by every result of every anchor and by the scale. The same on every rank."""
        scale = self.pair.scale.detach().requires_grad_()
        leaves = {
            side: {name: value_N.detach().requires_grad_() for name, value_N in self._results(side).items()}
            for side in self.exact
        }
        with torch.enable_grad():
            directions = [replace(self._anchors(side, dict(found)), scale=scale) for side, found in leaves.items()]
            loss = self.objective.loss(directions)
        names = [(side, name) for side, found in leaves.items() for name in found]
        variables = [scale, *(leaves[side][name] for side, name in names)]
        scale_slope, *found_N = torch.autograd.grad(loss, variables, allow_unused=True)
        slopes: Slopes = {side: {} for side in leaves}
        for (side, name), slope_N in zip(names, found_N, strict=True):
            if slope_N is not None:
                slopes[side][name] = slope_N
        return loss.detach(), slopes, torch.zeros_like(scale) if scale_slope is None else scale_slope

    def _push(self, block: Block, slopes: Slopes) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of own rows of p and q, without the factor s, and the sum of ∂L/∂S over own rows of p."""
        if self.world.size == 1:
            return self._push_rows(block, slopes, keys_too=len(block.q.z_Ad) > 0)
        p_Ad, _, total = self._push_rows(block, slopes, keys_too=False)
        q_Ad, _, _ = self._push_rows(block.turned(), slopes, keys_too=False)
        return p_Ad, q_Ad, total

    def _push_rows(self, block: Block, slopes: Slopes, keys_too: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Own rows of p get their gradient as anchors of one direction and as keys of the other, from the same tile."""
        p_Ad, total = torch.zeros_like(block.p.z_Ad), block.p.z_Nd.new_zeros(())
        q_Nd = torch.zeros_like(block.q.z_Nd) if keys_too else block.q.z_Nd[:0]
        for columns, forward, backward in self._views(block, self.objective.stages):
            slope_AK = None if forward is None else self._slopes(forward, slopes)
            turned_KA = None if backward is None else self._slopes(backward, slopes)
            if turned_KA is not None:
                slope_AK = turned_KA.T if slope_AK is None else slope_AK.add_(turned_KA.T)
            if slope_AK is None:
                continue
            p_Ad.addmm_(slope_AK, block.q.z_Nd[columns])
            if keys_too:
                torch.mm(slope_AK.T, block.p.z_Ad, out=q_Nd[columns])
            total += slope_AK.sum()
        return p_Ad, q_Nd[block.q.own] if keys_too else q_Nd, total

    def _slopes(self, view: View, slopes: Slopes) -> Tensor | None:
        return view.slopes(self.exact[view.tile.side], slopes[view.tile.side])

    def _views(self, block: Block, stage: int) -> Iterator[tuple[slice, View | None, View | None]]:
        """The tiles of own rows of p against all rows of q: the columns, and how each direction sees the tile."""
        anchors, scaled_Ad = block.p.cut(block.p.own), block.p.z_Ad * self.pair.scale
        for columns, masked in block.columns(self.pair.tile):
            keys = block.q.cut(columns)
            logits_AK = self._tile_logits((id(block.p), id(block.q), columns.start), scaled_Ad, keys.z_Nd)
            closed_AK = None
            if masked:
                closed_AK = anchors.group_N[:, None] == keys.group_N
                closed_AK &= anchors.item_N[:, None] != keys.item_N
            diagonal = block.p.own.start - columns.start
            if not block.paired or not -len(anchors) < diagonal < len(keys):
                diagonal = None
            forward = backward = None
            if block.forward:
                among = columns if block.paired else None
                tile = self._tile(block.forward, logits_AK, anchors, keys, block.p.own, among, diagonal, stage)
                forward = View.of(self.objective, tile, block.p.own, closed_AK)
            if block.backward:
                turned = None if diagonal is None else -diagonal
                among = block.p.own if block.paired else None
                tile = self._tile(block.backward, logits_AK.T, keys, anchors, columns, among, turned, stage)
                backward = View.of(self.objective, tile, columns, None if closed_AK is None else closed_AK.T)
            yield columns, forward, backward

    def _tile_logits(self, place: tuple[int, int, int], scaled_Ad: Tensor, keys_Kd: Tensor) -> Tensor:
        if place in self.kept:
            return self.kept[place]
        logits_AK = scaled_Ad @ keys_Kd.T
        if self.pair.bias is not None:
            logits_AK += self.pair.bias
        if self.keeps:
            self.kept[place] = logits_AK
        return logits_AK

    def _tile(
        self,
        side: Side,
        logits: Tensor,
        anchors: Rows,
        keys: Rows,
        part: slice,
        among: slice | None,
        diagonal: int | None,
        stage: int,
    ) -> Tile:
        """`part` are the places of the anchors among those of all ranks, and `among` those of the keys' items."""
        mine, theirs = (self.pair.x, self.pair.y) if side == "x" else (self.pair.y, self.pair.x)
        partners = None if among is None else mine.cut(among)
        own = theirs.cut(part) if self.pair.paired else None
        positive = None if self.positive_N is None else self.positive_N[part, None]
        results = {name: value_N[part, None].to(self.pair.scale) for name, value_N in self.exact[side].items()}
        return Tile(side, logits, anchors, keys, self.pair.scale, positive, diagonal, results, stage, partners, own)

    def _logits(self, cosine_N: Tensor) -> Tensor:
        logit_N = cosine_N * self.pair.scale
        return logit_N if self.pair.bias is None else logit_N + self.pair.bias
