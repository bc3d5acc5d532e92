"""Poly-view contrastive learning: several views of an item, each against the rest (Shidani et al. 2024).

A view is a row: the rows of all fields of the term, and of fields with several rows an item, are views of that item.
For an anchor α and another view β of its item, P_αβ is the probability of β among β and the negatives of α, which are
all views of the other items. Of M views, each anchor has the loss

    geometric:   −1/(M−1) Σ_β log P_αβ
    arithmetic:  −log [ 1/(M−1) Σ_β P_αβ ]

With two views of one encoder, both are the loss of SimCLR. With `own_view: false`, negatives are only views of another
field or number than the anchor's, and two fields give exactly InfoNCE.

The formulas are written from memory of the paper, and checked against a public reimplementation of its pseudocode. That
one agrees on P, on its negatives and on the geometric form. Its arithmetic form is a log-sum-exp of cross entropies
minus log K, which is not a mean of probabilities; this one is. For the arithmetic form it also matters which view of a
pair is the anchor: here α, whose probabilities are averaged, is the one that meets the negatives.

Where this differs from the paper: items may differ in their number of views. The loss is the mean over items of the
mean over the views of each; items with one view are left out. Keys of the anchor's group do not repel it.

Shapes: N views of all ranks, A of them this rank's own, V the most views of an item, d dimensions.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from tercet.models.losses.anchors import Anchors, Tile
from tercet.models.losses.kernel import Pair, contrast, item_losses
from tercet.models.losses.objective import Objective, objective
from tercet.models.losses.problem import Problem, Solution
from tercet.models.losses.rows import Rows
from tercet.models.losses.statistics import LogSumExp, Statistic


@objective("poly_view")
class PolyView(Objective):
    """Each of several views of an item must find the others (Shidani et al. 2024)."""

    mean: Annotated[
        Literal["geometric", "arithmetic"], Field(description="how the probabilities of the other views are averaged")
    ] = "geometric"
    own_view: Annotated[
        bool, Field(description="whether views of the anchor's own field and number are negatives, as in SimCLR")
    ] = True

    beyond_two: ClassVar[bool] = True
    refused: ClassVar[tuple[str, ...]] = ("against", "directions")

    def solve(self, problem: Problem) -> Solution:
        views = Views.of(problem.fields)
        pair = self._pair(problem, views)
        found = contrast(self, pair, problem.world)
        slope_NV = self._slopes(found.anchors[0])
        slope_Ad, along = views.push(slope_NV)
        scale = problem.scale.reshape(())
        solution = Solution.empty(problem)
        views.split(found.x_Ad + found.y_Ad + scale * slope_Ad, solution.rows)
        solution.loss, solution.scale = found.loss, found.scale + problem.world.sum(along)
        solution.anchors += found.anchors
        return solution

    def losses_of_items(self, problem: Problem) -> Iterator[tuple[Tensor, Tensor, float]]:
        pair = self._pair(problem, Views.of(problem.fields))
        item_N, loss_N = pair.x.item_N, item_losses(self, pair, problem.world)
        items, index_N = torch.unique(item_N, return_inverse=True)
        loss = loss_N.new_zeros(len(items)).index_add_(0, index_N, loss_N)
        yield items, loss * len(items) / max(len(item_N), 1), 1.0

    def dropped(self, tile: Tile) -> Tensor | None:
        if self.own_view:
            return None
        return tile.anchors.extra["view"][:, None] == tile.keys.extra["view"]

    def statistics(self, tile: Tile) -> Mapping[str, Statistic]:
        return {"lse": LogSumExp(tile.others(tile.logits))}

    def losses(self, anchors: Anchors) -> Tensor:
        positive_NV, other_NV = anchors.rows.extra["positive"], anchors.rows.extra["other"]
        likely_NV = logsigmoid(positive_NV - anchors.lse[:, None])
        count_N = other_NV.sum(dim=1).to(likely_NV)
        if self.mean == "arithmetic":
            return count_N.log() - likely_NV.masked_fill(~other_NV, -torch.inf).logsumexp(dim=1)
        return -likely_NV.masked_fill(~other_NV, 0.0).sum(dim=1) / count_N

    def row_weight(self, row: Anchors) -> Tensor:
        """Each item counts the same, whatever its number of views."""
        views_N = row.rows.extra["other"].sum(dim=1) + 1
        weight_N = 1 / views_N.to(row.lse)
        return weight_N / weight_N.mean()

    def probability(self, row: Anchors) -> Tensor:
        """The mean over the other views."""
        return (-self.losses(row)).exp()

    def _pair(self, problem: Problem, views: "Views") -> Pair:
        """The views against themselves, with the logits of each and the other views of its item."""
        extra = {"view": views.view_N, "positive": problem.scale.reshape(()) * views.cosine_NV, "other": views.other_NV}
        rows = replace(views.rows, extra=extra)
        return Pair(rows, rows, problem.scale, None, problem.tile, shares=(1.0, 0.0), paired=False)

    def _slopes(self, anchors: Anchors) -> Tensor:
        """∂L/∂logit of each anchor and the other views of its item `[N, V]`."""
        with torch.enable_grad():
            positive_NV = anchors.rows.extra["positive"].detach().requires_grad_()
            rows = replace(anchors.rows, extra={**anchors.rows.extra, "positive": positive_NV})
            loss = self.loss([replace(anchors, rows=rows)])
        (slope_NV,) = torch.autograd.grad(loss, positive_NV)
        return slope_NV


@dataclass(frozen=True)
class Views:
    """The rows of all fields of all items that have two or more, in the order of the items.

    `view_N` tells views apart by field and number. `place_NV` are the places of the views of each row's item, and
    `other_NV` which of them exist and are not the row itself.
    """

    rows: Rows
    view_N: Tensor
    place_NV: Tensor
    other_NV: Tensor
    number_N: Tensor
    sources: Mapping[str, tuple[Tensor, Tensor]]  # by field: which of this rank's rows it has, and their places in own

    @staticmethod
    def of(fields: Mapping[str, Rows]) -> "Views":
        known = list(fields.values())
        parts = [[rows.z_Nd, rows.item_N, rows.group_N, rows.id_N, rows.number_N] for rows in known]
        z_Nd, item_N, group_N, id_N, view_N = map(torch.cat, zip(*parts, strict=True))
        field_N = torch.cat([torch.full_like(rows.item_N, number) for number, rows in enumerate(known)])
        row_N = torch.cat([torch.arange(len(rows), device=z_Nd.device) for rows in known])
        own_N = torch.cat([torch.zeros_like(rows.item_N, dtype=torch.bool) for rows in known])
        start = 0
        for rows in known:
            own_N[start + rows.own.start : start + rows.own.stop] = True
            start += len(rows)
        _, index_N, counts = torch.unique(item_N, return_inverse=True, return_counts=True)
        order_N = item_N.argsort(stable=True)
        order_N = order_N[counts[index_N[order_N]] > 1]
        mine = torch.nonzero(own_N[order_N]).flatten()
        own = slice(int(mine[0]), int(mine[-1]) + 1) if len(mine) else slice(0, 0)
        rows = Rows(z_Nd[order_N], own, item_N[order_N], group_N[order_N], id_N[order_N])
        field_A, row_A = field_N[order_N][own], row_N[order_N][own]
        sources = {}
        for number, name in enumerate(fields):
            place_n = torch.nonzero(field_A == number).flatten()
            sources[name] = row_A[place_n] - known[number].own.start, place_n
        view_N = view_N * len(known) + field_N
        return Views(rows, view_N[order_N], *_others(rows), rows.number_N, sources)

    @property
    def cosine_NV(self) -> Tensor:
        """The cosine of each row and each view of its item."""
        z_Nd = self.rows.z_Nd
        columns = [(z_Nd * z_Nd[place_N]).sum(dim=1) for place_N in self.place_NV.T]
        return torch.stack(columns, dim=1)

    def push(self, slope_NV: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of this rank's rows through the cosines, and Σ slope · cosine over its anchors."""
        own, z_Nd = self.rows.own, self.rows.z_Nd
        slope_Ad, along = torch.zeros_like(self.rows.z_Ad), z_Nd.new_zeros(())
        for view, place_A in enumerate(self.place_NV[own].T):
            other_Ad, slope_A = z_Nd[place_A], slope_NV[own, view]
            along = along + (slope_A * (other_Ad * self.rows.z_Ad).sum(dim=1)).sum()
            # A row is an anchor, and also the other view of each of its other views.
            turned_A = slope_NV[place_A, self.number_N[own]] * self.other_NV[own, view]
            slope_Ad += (slope_A + turned_A)[:, None] * other_Ad
        return slope_Ad, along

    def split(self, slope_Ad: Tensor, into: Mapping[str, Tensor]) -> None:
        """Adds the gradients of the views to those of the rows of each field."""
        for name, (row_n, place_n) in self.sources.items():
            into[name][row_n] += slope_Ad[place_n]


def _others(rows: Rows) -> tuple[Tensor, Tensor]:
    """The places of the views of each row's item, its own where there is none, and which of them are other views."""
    own_N = torch.arange(len(rows), device=rows.item_N.device)
    first_N = torch.searchsorted(rows.item_N, rows.item_N)
    count_N = torch.searchsorted(rows.item_N, rows.item_N, right=True) - first_N
    offset_V = torch.arange(int(count_N.max()) if len(rows) else 1, device=own_N.device)
    place_NV = first_N[:, None] + offset_V
    other_NV = (offset_V < count_N[:, None]) & (place_NV != own_N[:, None])
    return torch.where(other_NV, place_NV, own_N[:, None]), other_NV
