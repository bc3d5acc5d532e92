"""Symile: several fields at once, compared by the sum of the products of their vectors (Saporta et al. 2024).

The logit of rows x, y, z is s · Σ_d x_d y_d z_d. It can tell what no pair of fields can: which x belongs to y and z
together. Each field is the anchor in turn, and the loss is the mean of the cross entropies. The keys of an anchor are
products of rows of the other fields:

    negatives: n          N products of rows that are drawn by independent permutations, and the anchor's own product
    negatives: n_squared  all N^(M−1) products

No matrix of products is stored: they are formed one tile at a time. Permutations depend only on the seed of the step,
so they are the same on all ranks.

Products of unit vectors are small: about 1/d for unrelated rows of d dimensions, and at most about 1/√d. So the scale
may grow far beyond 100.

Where this differs from the paper: a product whose rows all belong to the group of the anchor is not a negative. Items
without all fields are left out by default. The paper passes an indicator of missing inputs to the encoders instead; for
an encoder that never sees a missing input, `missing: constant` is the nearest thing. There, the vector of a missing row
is 1/√d in every dimension: the remaining fields are then compared by their cosine, times 1/√d.

Shapes: M fields of N items of all ranks, F = M − 1 of them keys, A anchors of this rank, K products, d dimensions.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from tercet.data_pipelines.seeding import keyed
from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.losses.anchors import Anchors
from tercet.models.losses.objective import Objective, objective
from tercet.models.losses.problem import Problem, Solution
from tercet.models.losses.rows import NO_GROUP, Rows
from tercet.models.losses.statistics import finite
from tercet.models.term_config import TermConfig


@objective("symile")
class Symile(Objective):
    """Three or more fields at once, by the sum of the products of their vectors (Saporta et al. 2024)."""

    scale: Annotated[
        float,
        Field(description="the inverse temperature at first; it may start higher in a wide joint space"),
    ] = Objective.scale
    bounds: tuple[float, float] = (0.1, 1e5)
    negatives: Annotated[
        Literal["n", "n_squared"],
        Field(description="with how many products an anchor is compared: N, or all N^(M−1) of M fields"),
    ] = "n"
    missing: Annotated[
        Literal["leave_out", "constant"],
        Field(description="leave items without all fields out, or replace their missing rows by a constant vector"),
    ] = "leave_out"

    beyond_two: ClassVar[bool] = True
    refused: ClassVar[tuple[str, ...]] = ("against",)

    def check(self, term: TermConfig) -> None:
        if len(term.between) < 3:
            raise UserError(
                f"terms.{term.name}: `{term.objective.name}` compares three or more fields at once, not "
                f"{len(term.between)}; name more in `between`, or use infonce"
            )
        super().check(term)

    def solve(self, problem: Problem) -> Solution:
        whole = Solution.empty(problem)
        chosen = list(self._bundles(problem))
        for bundle in chosen:
            whole.add(self._solve_bundle(problem, bundle), 1 / len(chosen))
        return whole

    def losses_of_items(self, problem: Problem) -> Iterator[tuple[Tensor, Tensor, float]]:
        chosen = list(self._bundles(problem))
        for bundle in chosen:
            for share, direction in self._directions(problem, bundle):
                anchors = direction.anchors(problem.world, share)
                yield anchors.rows.item_N, self.losses(anchors), share / len(chosen)

    def losses(self, anchors: Anchors) -> Tensor:
        return softplus(anchors.lse - anchors.positive)

    def probability(self, row: Anchors) -> Tensor:
        return torch.sigmoid(row.positive - row.lse)

    def _bundles(self, problem: Problem) -> Iterator["Bundle"]:
        """A bundle for each combination of row numbers, for fields where an item may have several rows."""
        needed = len(problem.fields) if self.missing == "leave_out" else 2
        for numbers in product(*(range(problem.counts.get(name, 1)) for name in problem.fields)):
            yield Bundle.of(problem.fields, numbers, needed)

    def _directions(self, problem: Problem, bundle: "Bundle") -> Iterator[tuple[float, "Direction"]]:
        """Each field as the anchors, with its share of the loss."""
        count = len(bundle.z_MNd)
        for anchor, name in enumerate(problem.fields):
            share = problem.shares.get(name, 0.0) if problem.shares else 1 / count
            order_FN = None
            if self.negatives == "n":
                order_FN = permutations(problem.seed, anchor, count - 1, len(bundle.item_N)).to(bundle.item_N.device)
            if share:
                yield share, Direction(bundle, anchor, order_FN, problem.scale.reshape(()), problem.tile)

    def _solve_bundle(self, problem: Problem, bundle: "Bundle") -> Solution:
        found = Solution.empty(problem)
        slope_MNd = torch.zeros_like(bundle.z_MNd)
        for share, direction in self._directions(problem, bundle):
            anchors = direction.anchors(problem.world, share)
            weight = share / max(len(anchors.rows), 1)
            found.anchors.append(anchors)
            found.loss = found.loss + weight * self.losses(anchors).sum()
            # ∂/∂lse of softplus(lse − positive); that by the positive is its negative.
            slope_A = weight * torch.sigmoid(anchors.lse - anchors.positive)[anchors.rows.own]
            found.scale = found.scale + direction.push(anchors.lse[anchors.rows.own], slope_A, slope_MNd)
        totals = problem.world.sum(torch.cat([slope_MNd.flatten(), found.scale.reshape(1)]))
        found.scale, slope_MNd = totals[-1], totals[:-1].view_as(slope_MNd)
        for name, slope_Nd, place_n, row_n in zip(
            problem.fields, slope_MNd, bundle.places, bundle.own_rows, strict=True
        ):
            found.rows[name][row_n] += slope_Nd[place_n]
        return found


@dataclass(frozen=True)
class Bundle:
    """One row of each field for every item, and whether it exists; the items are in order.

    `own` are the items of this rank. By field, `places` and `own_rows` say which place among all items each of this
    rank's rows has.
    """

    z_MNd: Tensor
    there_MN: Tensor
    item_N: Tensor
    group_N: Tensor
    id_N: Tensor
    own: slice
    places: Sequence[Tensor]
    own_rows: Sequence[Tensor]

    @staticmethod
    def of(fields: Mapping[str, Rows], numbers: Sequence[int], needed: int) -> "Bundle":
        """The rows of these numbers, of the items that have at least `needed` of them."""
        picks = [
            torch.nonzero(rows.number_N == number).flatten()
            for rows, number in zip(fields.values(), numbers, strict=True)
        ]
        every = torch.cat([rows.item_N[pick] for rows, pick in zip(fields.values(), picks, strict=True)])
        item_N, count_N = torch.unique(every, return_counts=True)
        item_N = item_N[count_N >= needed]
        first = next(iter(fields.values())).z_Nd
        z_MNd = first.new_full((len(fields), len(item_N), first.shape[1]), first.shape[1] ** -0.5)
        there_MN = torch.zeros(z_MNd.shape[:2], dtype=torch.bool, device=first.device)
        group_N, id_N = torch.empty_like(item_N), torch.empty_like(item_N)
        places, own_rows = [], []
        own_N = torch.zeros_like(item_N, dtype=torch.bool)
        for number, (rows, pick) in enumerate(zip(fields.values(), picks, strict=True)):
            pick = pick[torch.isin(rows.item_N[pick], item_N)]
            place = torch.searchsorted(item_N, rows.item_N[pick])
            z_MNd[number, place], there_MN[number, place] = rows.z_Nd[pick], True
            group_N[place], id_N[place] = rows.group_N[pick], rows.id_N[pick]
            here = (pick >= rows.own.start) & (pick < rows.own.stop)
            own_N[place[here]] = True
            places.append(place[here])
            own_rows.append(pick[here] - rows.own.start)
        mine = torch.nonzero(own_N).flatten()
        own = slice(int(mine[0]), int(mine[-1]) + 1) if len(mine) else slice(0, 0)
        return Bundle(z_MNd, there_MN, item_N, group_N, id_N, own, places, own_rows)


@dataclass(frozen=True)
class Direction:
    """One field as the anchors. `order_FN` has the rows of each product; None means all combinations."""

    bundle: Bundle
    anchor: int
    order_FN: Tensor | None
    scale: Tensor
    tile: int

    @property
    def keys(self) -> list[int]:
        return [number for number in range(len(self.bundle.z_MNd)) if number != self.anchor]

    @property
    def there_N(self) -> Tensor:
        return self.bundle.there_MN[self.anchor]

    @property
    def place_A(self) -> Tensor:
        """The places of this rank's anchors among all items."""
        own = self.bundle.own
        return torch.nonzero(self.there_N[own]).flatten() + int(own.start)

    def anchors(self, world: World, share: float) -> Anchors:
        """The logit of each anchor and its own product, and the log-sum-exp over the negatives, over all ranks."""
        bundle, place_A = self.bundle, self.place_A
        lse_A = self.scale.new_full((len(place_A),), -torch.inf)
        closed_A = torch.zeros_like(lse_A)
        total = 0
        for index_FK, closed_AK in self._tiles(place_A):
            logits_AK = self._logits(place_A, self._product(index_FK)).masked_fill_(closed_AK, -torch.inf)
            lse_A = torch.logaddexp(lse_A, torch.logsumexp(logits_AK, dim=1))
            closed_A += closed_AK.sum(dim=1)
            total += index_FK.shape[1]
        whole_2N = lse_A.new_zeros(2, len(bundle.item_N))
        whole_2N[:, place_A] = torch.stack([lse_A, total - closed_A])
        lse_N, count_N = world.sum(whole_2N)[:, self.there_N]
        own = slice(int(self.there_N[: bundle.own.start].sum()), int(self.there_N[: bundle.own.stop].sum()))
        item_N, group_N, id_N = (known_N[self.there_N] for known_N in (bundle.item_N, bundle.group_N, bundle.id_N))
        rows = Rows(bundle.z_MNd[self.anchor][self.there_N], own, item_N, group_N, id_N)
        positive_N = self.scale * bundle.z_MNd.prod(dim=0).sum(dim=1)[self.there_N]
        return Anchors("x", rows, {"lse": lse_N}, positive_N, count_N, total - count_N - 1, self.scale, share)

    def push(self, lse_A: Tensor, slope_A: Tensor, into_MNd: Tensor) -> Tensor:
        """Adds the gradients through this rank's anchors, of all fields. Returns that of the scale.

        `slope_A` is ∂L/∂lse, and −∂L/∂positive.
        """
        place_A, z_MNd = self.place_A, self.bundle.z_MNd
        own_Ad, base_A1 = z_MNd[self.anchor, place_A], finite(lse_A)[:, None]
        slope_Ad = -slope_A[:, None] * self._product(place_A.expand(len(self.keys), -1))
        along = (own_Ad * slope_Ad).sum()
        for key in self.keys:
            pull_Ad = z_MNd[[other for other in range(len(z_MNd)) if other != key]][:, place_A].prod(dim=0)
            into_MNd[key, place_A] -= self.scale * slope_A[:, None] * pull_Ad
        push_Ad = torch.zeros_like(own_Ad)
        for index_FK, closed_AK in self._tiles(place_A):
            product_Kd = self._product(index_FK)
            logits_AK = self._logits(place_A, product_Kd).masked_fill_(closed_AK, -torch.inf)
            slope_AK = (logits_AK - base_A1).exp_().mul_(slope_A[:, None])
            push_Ad.addmm_(slope_AK, product_Kd)
            turned_Kd = self.scale * (slope_AK.T @ own_Ad)
            for number, key in enumerate(self.keys):
                rest = [other for other in range(len(self.keys)) if other != number]
                into_MNd[key].index_add_(0, index_FK[number], turned_Kd * self._product(index_FK, rest))
        into_MNd[self.anchor, place_A] += self.scale * (slope_Ad + push_Ad)
        return along + (own_Ad * push_Ad).sum()

    def _tiles(self, place_A: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The rows of the products of each tile `[F, K]`, and which products do not repel an anchor `[A, K]`."""
        count = len(self.bundle.item_N)
        total = count if self.order_FN is not None else count ** len(self.keys)
        group_A1 = self.bundle.group_N[place_A, None]
        for start in range(0, total, self.tile):
            column_K = torch.arange(start, min(start + self.tile, total), device=place_A.device)
            if self.order_FN is not None:
                index_FK = self.order_FN[:, column_K]
            else:
                steps = [count**power for power in reversed(range(len(self.keys)))]
                index_FK = torch.stack([column_K // step % count for step in steps])
            group_K, empty_K = self._groups(index_FK)
            closed_AK = (group_A1 == group_K) | empty_K
            if self.order_FN is not None:
                closed_AK |= place_A[:, None] == column_K  # the own product takes the place of this one
            yield index_FK, closed_AK

    def _groups(self, index_FK: Tensor) -> tuple[Tensor, Tensor]:
        """The group of all existing rows of each product, if they have the same one; and whether none exists."""
        there_FK = torch.stack(
            [self.bundle.there_MN[key, index_K] for key, index_K in zip(self.keys, index_FK, strict=True)]
        )
        group_FK = self.bundle.group_N[index_FK]
        limits = torch.iinfo(group_FK.dtype)
        high_K = group_FK.masked_fill(~there_FK, limits.min).amax(dim=0)
        low_K = group_FK.masked_fill(~there_FK, limits.max).amin(dim=0)
        return torch.where(high_K == low_K, high_K, NO_GROUP), ~there_FK.any(dim=0)

    def _product(self, index_FK: Tensor, among: Sequence[int] | None = None) -> Tensor:
        """The products of the rows `[K, d]`, of all keys or of some of them."""
        numbers = range(len(self.keys)) if among is None else among
        rows = [self.bundle.z_MNd[self.keys[number], index_FK[number]] for number in numbers]
        return reduce(torch.mul, rows)

    def _logits(self, place_A: Tensor, product_Kd: Tensor) -> Tensor:
        return (self.bundle.z_MNd[self.anchor, place_A] * self.scale) @ product_Kd.T


def permutations(seed: int, anchor: int, fields: int, count: int) -> Tensor:
    """An independent order of the items for each field of the keys `[F, N]`."""
    draws = (keyed(f"symile {anchor} {field}", seed).permutation(count) for field in range(fields))
    return torch.stack([torch.from_numpy(order) for order in draws])
