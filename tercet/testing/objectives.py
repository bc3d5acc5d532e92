"""Checks that an objective meets the contract of the kernel: each part against autograd, then the whole, in every
tiling, with groups, at odd sizes, at extreme logits, and on two real processes. Objectives that solve a term themselves
have checks of their own.

Shapes: N rows of both sides, A anchors and K keys of a tile, d dimensions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.distributed import World
from tercet.models.losses import Objective
from tercet.models.losses.anchors import Anchors, Side, Tile
from tercet.models.losses.kernel import KEPT, Contrast, Pair, contrast
from tercet.models.losses.rows import Rows
from tercet.models.losses.tiles import HARDEST, Running, View
from tercet.testing import joint_objectives
from tercet.testing.examples import Beside, Example, build_example, example_of
from tercet.testing.ranks import on_ranks
from tercet.testing.verdict import demand, demand_equal

GROUPS = ([0, 1, 2, 3, 4, 5, 6, 7, 8], [0, 1, 0, 2, 3, 3, 4, 0, 5], [7])
TILES = (1, 4, 9, 100)
PARTS = ("loss", "gradient", "gradient", "temperature's gradient", "bias's gradient")
ALONE = slice(1, 2)  # an anchor that is also computed alone


def check_objective(
    objective: str | Objective,
    *,
    example: Example | None = None,
    definition: joint_objectives.Definition | None = None,
    **options: object,
) -> None:
    """Raises an AssertionError that says what is wrong. Give an objective, or its name and options.

    An objective that overrides `solve` is checked on the fields of `example`, by default those of its entry in
    `EXAMPLES`. Its gradients must be those of finite differences of its loss, or else of
    `definition(fields, groups, scale, bias)`, the loss that autograd differentiates.
    """
    if isinstance(objective, str):
        example = example or example_of(objective)
        objective = build_example(objective, **options)
    if type(objective).solve is not Objective.solve:
        for joint_check in joint_objectives.CHECKS:
            joint_check(objective, example or Example(), definition)
        return
    for check in CHECKS:
        check(objective)


@dataclass(frozen=True)
class PairProblem:
    """Unit rows of both sides, their groups, and the initial temperature and bias of the objective.

    `extra` has what the objective reads of each row of either side.
    """

    x_Nd: Tensor
    y_Nd: Tensor
    group_N: Tensor
    scale: Tensor
    bias: Tensor | None
    extra: tuple[Mapping[str, Tensor], Mapping[str, Tensor]]

    @staticmethod
    def of(objective: Objective, groups: list[int]) -> "PairProblem":
        random = torch.Generator().manual_seed(0)
        x_Nd, y_Nd = normalize(torch.randn(2, len(groups), 6, generator=random, dtype=torch.float64), dim=2)
        scale = torch.tensor([min(objective.scale, 5.0)], dtype=torch.float64)
        bias = None if objective.bias is None else torch.tensor([objective.bias / 4], dtype=torch.float64)
        beside = Beside(objective, Example(), len(groups))
        x, y = (beside.with_extra(side, Rows.numbered(z_Nd)).extra for side, z_Nd in (("x", x_Nd), ("y", y_Nd)))
        return PairProblem(x_Nd, y_Nd, torch.tensor(groups), scale, bias, (x, y))

    def variables(self) -> list[Tensor]:
        return [self.x_Nd, self.y_Nd, self.scale, *([] if self.bias is None else [self.bias])]

    def pair(self, tile: int, world: World) -> Pair:
        own = slice(*(len(self.x_Nd) * rank // world.size for rank in (world.rank, world.rank + 1)))
        x, y = (
            replace(Rows.numbered(z_Nd, own, self.group_N), extra=extra)
            for z_Nd, extra in zip((self.x_Nd, self.y_Nd), self.extra, strict=True)
        )
        return Pair(x, y, self.scale, self.bias, tile)

    def solve(self, objective: Objective, tile: int, world: World, kept: int = KEPT) -> Contrast:
        return contrast(objective, replace(self.pair(tile, world), kept=kept), world)


class Whole:
    """A pair as one tile of the whole matrix, which autograd can differentiate."""

    def __init__(self, objective: Objective, problem: PairProblem) -> None:
        pair = problem.pair(len(problem.x_Nd), World())
        self.objective, self.x, self.y = objective, pair.x, pair.y
        factor = objective.scale_factor(pair.cosines().detach())
        self.scale = problem.scale.reshape(()) * (1.0 if factor is None else factor)
        self.logits_NN = self.scale * problem.x_Nd @ problem.y_Nd.T
        if problem.bias is not None:
            self.logits_NN = self.logits_NN + problem.bias
        different_NN = self.x.item_N[:, None] != self.y.item_N
        self.closed_NN = (self.x.group_N[:, None] == self.y.group_N) & different_NN

    def view(self, side: Side, stage: int = 0, results: dict[str, Tensor] | None = None) -> View:
        """The matrix as the anchors of a side see it."""
        forward = side == "x"
        logits_NN, closed_NN = (m if forward else m.T for m in (self.logits_NN, self.closed_NN))
        rows = (self.x, self.y) if forward else (self.y, self.x)
        columns = {name: value_N[:, None].detach() for name, value_N in (results or {}).items()}
        positive_N1 = logits_NN.diagonal()[:, None].detach()
        tile = Tile(side, logits_NN, *rows, self.scale.detach(), positive_N1, 0, columns, stage, *rows)
        return View.of(self.objective, tile, slice(0, len(logits_NN)), closed_NN)

    def results(self, side: Side) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for stage in range(0 if self.objective.hardest is None else HARDEST, self.objective.stages):
            running = Running()
            running.add(self.view(side, stage, found))
            found |= running.results()
        return found

    def anchors(self, side: Side) -> Anchors:
        found = self.results(side)
        found.pop("hardest", None)
        positive, negatives, masked = (found.pop(name) for name in ("positive", "negatives", "masked"))
        share = 1.0 if self.objective.symmetric else 0.5
        return Anchors(side, self.x if side == "x" else self.y, found, positive, negatives, masked, self.scale, share)

    def loss(self) -> Tensor:
        sides: tuple[Side, ...] = ("x",) if self.objective.symmetric else ("x", "y")
        return self.objective.loss([self.anchors(side) for side in sides])


def dense(objective: Objective, problem: PairProblem) -> list[Tensor]:
    """The loss by its definition over the whole matrix, and autograd's gradients of it."""
    variables = [variable.clone().requires_grad_() for variable in problem.variables()]
    x_Nd, y_Nd, scale, *bias = variables
    leaves = replace(problem, x_Nd=x_Nd, y_Nd=y_Nd, scale=scale, bias=bias[0] if bias else None)
    loss = Whole(objective, leaves).loss()
    return [loss.detach(), *torch.autograd.grad(loss, variables, materialize_grads=True)]


def reduces_each_row(objective: Objective) -> None:
    whole = Whole(objective, PairProblem.of(objective, GROUPS[0]))
    view = whole.view("x")
    found = view.statistics()
    demand(bool(found), "`statistics` returns nothing")
    tile = view.tile
    one = replace(
        tile,
        logits=tile.logits[ALONE],
        anchors=tile.anchors.cut(ALONE),
        positive=None if tile.positive is None else tile.positive[ALONE],
        diagonal=ALONE.start,
        own=None if tile.own is None else tile.own.cut(ALONE),
    )
    closed = None if view.closed is None else view.closed[ALONE]
    alone = View(objective, one, ALONE, closed).statistics()
    for name, statistic in found.items():
        for value, single in zip(statistic.reduce(), alone[name].reduce(), strict=True):
            demand(value.shape[:1] == tile.logits.shape[:1], f"statistic `{name}` must have one value for each anchor")
            one_sum, of_all = (kept.masked_fill(kept == -torch.inf, 0.0) for kept in (single, value[ALONE]))  # no keys
            demand_equal(one_sum, of_all, f"statistic `{name}` lets anchors mix: an anchor alone gives another value")


def differentiates(objective: Objective) -> None:
    whole = Whole(objective, PairProblem.of(objective, GROUPS[0]))
    results = whole.results("x")
    for stage in range(objective.stages):
        view = whole.view("x", stage, results)
        logits_NN = view.tile.logits.detach().clone().requires_grad_()
        view = replace(view, tile=replace(view.tile, logits=logits_NN))
        columns = {name: value_N[:, None].detach() for name, value_N in results.items()}
        for name, statistic in view.statistics().items():
            total = statistic.results(name, statistic.reduce())[name].sum()
            expected_NN = torch.zeros_like(logits_NN)
            if total.requires_grad:
                (expected_NN,) = torch.autograd.grad(total, logits_NN, materialize_grads=True)
            with torch.no_grad():
                found_NN = statistic.slopes(name, columns, torch.ones_like(logits_NN[:, :1]))
            found_NN = torch.zeros_like(logits_NN) if found_NN is None else found_NN
            demand_equal(
                found_NN,
                expected_NN,
                f"the slope of statistic `{name}` is not the derivative of its value; detach what is a constant",
            )


def writes_to_nothing(objective: Objective) -> None:
    whole = Whole(objective, PairProblem.of(objective, GROUPS[0]))
    before_NN = whole.logits_NN.clone()
    results = whole.results("x")
    demand(torch.equal(whole.logits_NN, before_NN), "`statistics` writes to the logits")
    whole.view("x", 0, results).slopes(results, dict.fromkeys(results, torch.ones_like(before_NN[0])))
    demand(torch.equal(whole.logits_NN, before_NN), "a slope of `statistics` writes to the logits")


def weighs_each_row(objective: Objective) -> None:
    anchors = Whole(objective, PairProblem.of(objective, GROUPS[0])).anchors("x")
    weight_N = objective.row_weight(anchors)
    if weight_N is None:
        return
    demand(weight_N.shape == anchors.positive.shape, "`row_weight` must return one value for each anchor, or None")
    demand(bool(torch.isfinite(weight_N).all()), "`row_weight` is not finite")


def is_as_symmetric_as_it_says(objective: Objective) -> None:
    whole = Whole(objective, PairProblem.of(objective, GROUPS[1]))
    if objective.symmetric:
        there, back = (objective.loss([whole.anchors(side)]) for side in ("x", "y"))
        demand_equal(there, back, "`symmetric` is set, but the two directions have different losses")


def equals_autograd_in_every_tiling(objective: Objective) -> None:
    for groups in GROUPS:
        problem = PairProblem.of(objective, groups)
        expected = dense(objective, problem)
        for tile, kept in product(TILES, (0, KEPT)):
            found = answer(problem, problem.solve(objective, tile, World(), kept))
            demand(finite(found), f"the loss or its gradients are not finite, with groups {groups}")
            for name, one, other in zip(PARTS, found, expected, strict=False):
                demand_equal(
                    one, other, f"the {name} in tiles of {tile} is not that of the whole matrix, with groups {groups}"
                )


def finite(parts: list[Tensor]) -> bool:
    return all(bool(torch.isfinite(part).all()) for part in parts)


def answer(problem: PairProblem, found: Contrast) -> list[Tensor]:
    parts = [found.loss, found.x_Ad, found.y_Ad, found.scale.reshape(1), found.bias.reshape(1)]
    return parts[: 1 + len(problem.variables())]


def stays_finite(objective: Objective) -> None:
    exact = PairProblem.of(objective, GROUPS[0])
    bias = None if exact.bias is None else exact.bias.float()
    x, y = ({name: value.float() for name, value in extra.items()} for extra in exact.extra)
    rounded = replace(
        exact,
        x_Nd=exact.x_Nd.float(),
        y_Nd=exact.y_Nd.float(),
        scale=torch.tensor([1e4]),
        bias=bias,
        extra=(x, y),
    )
    found = answer(rounded, rounded.solve(objective, 4, World()))
    demand(finite(found), "logits of ±10,000 in fp32 overflow to inf or NaN")


def is_the_same_on_two_ranks(objective: Objective) -> None:
    problem = PairProblem.of(objective, GROUPS[1])
    alone = answer(problem, problem.solve(objective, 4, World()))
    first, second = on_ranks(on_one_of_two, 2, objective, problem)
    joined = [first[0], torch.cat([first[1], second[1]]), torch.cat([first[2], second[2]]), *first[3:]]
    demand_equal(joined, alone, "on two processes the loss or its gradients differ from those on one")


def on_one_of_two(world: World, objective: Objective, problem: PairProblem) -> list[Tensor]:
    return answer(problem, problem.solve(objective, 4, world))


CHECKS: tuple[Callable[[Objective], None], ...] = (
    writes_to_nothing,
    reduces_each_row,
    differentiates,
    weighs_each_row,
    is_as_symmetric_as_it_says,
    equals_autograd_in_every_tiling,
    stays_finite,
    is_the_same_on_two_ranks,
)
