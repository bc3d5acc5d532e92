"""Checks that an objective meets the contract of the kernel: each part against autograd, then the whole, in every
tiling, with groups, at odd sizes, at extreme logits, and on two real processes.

Shapes: N rows of both sides, A anchors and K keys of a tile, d dimensions.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.distributed import World
from tercet.models.config import ObjectiveConfig
from tercet.models.losses import Objective, build_objective
from tercet.models.losses.kernel import Contrast, Pair, Side, contrast
from tercet.models.losses.objective import Row
from tercet.testing.ranks import on_ranks
from tercet.testing.verdict import demand, demand_equal

GROUPS = ([0, 1, 2, 3, 4, 5, 6, 7, 8], [0, 1, 0, 2, 3, 3, 4, 0, 5], [7])
TILES = (1, 4, 9, 100)
PARTS = ("loss", "gradient", "gradient", "temperature's gradient", "bias's gradient")
ROWS_A = [0, 1, 2]  # anchors that are also computed alone


def check_objective(objective: str | Objective, **options: object) -> None:
    """Raises an AssertionError that says what is wrong. Give an objective, or its name and options."""
    if isinstance(objective, str):
        objective = build_objective(ObjectiveConfig.model_validate({"name": objective, **options}))
    for check in CHECKS:
        check(objective)


@dataclass(frozen=True)
class PairProblem:
    """Unit rows of both sides, their groups, and the initial temperature and bias of the objective."""

    x_Nd: Tensor
    y_Nd: Tensor
    group_N: Tensor
    scale: Tensor
    bias: Tensor | None

    @staticmethod
    def of(objective: Objective, groups: list[int]) -> "PairProblem":
        random = torch.Generator().manual_seed(0)
        x_Nd, y_Nd = normalize(torch.randn(2, len(groups), 6, generator=random, dtype=torch.float64), dim=2)
        scale = torch.tensor([min(objective.scale, 5.0)], dtype=torch.float64)
        bias = None if objective.bias is None else torch.tensor([objective.bias / 4], dtype=torch.float64)
        return PairProblem(x_Nd, y_Nd, torch.tensor(groups), scale, bias)

    def variables(self) -> list[Tensor]:
        return [self.x_Nd, self.y_Nd, self.scale, *([] if self.bias is None else [self.bias])]

    def logits(self) -> Tensor:
        logits_NN = self.scale * self.x_Nd @ self.y_Nd.T + (0.0 if self.bias is None else self.bias)
        other_NN = ~torch.eye(len(logits_NN), dtype=torch.bool)
        return logits_NN.masked_fill((self.group_N[:, None] == self.group_N) & other_NN, -torch.inf)

    def solve(self, objective: Objective, tile: int, world: World) -> Contrast:
        own = slice(*(len(self.x_Nd) * rank // world.size for rank in (world.rank, world.rank + 1)))
        x, y = (Side(z_Nd, self.group_N, own) for z_Nd in (self.x_Nd, self.y_Nd))
        return contrast(objective, Pair(x, y, self.scale, self.bias, tile), world)


def dense(objective: Objective, problem: PairProblem) -> list[Tensor]:
    """The loss by its definition over the whole matrix, and autograd's gradients of it."""
    variables = [variable.clone().requires_grad_() for variable in problem.variables()]
    x_Nd, y_Nd, scale, *bias = variables
    logits_NN = replace(problem, x_Nd=x_Nd, y_Nd=y_Nd, scale=scale, bias=bias[0] if bias else None).logits()
    directions = [logits_NN] if objective.symmetric else [logits_NN, logits_NN.T]
    losses = [weighted(objective, direction).mean() for direction in directions]
    loss = torch.stack(losses).mean()
    return [loss.detach(), *torch.autograd.grad(loss, variables, materialize_grads=True)]


def weighted(objective: Objective, logits_NN: Tensor) -> Tensor:
    positive_N, reduced_N = logits_NN.diagonal(), objective.reduce(logits_NN)
    weight_N = objective.row_weight(Row(positive_N.detach(), reduced_N.detach()))
    return (1.0 if weight_N is None else weight_N) * (reduced_N - positive_N)


def reduces_each_row(objective: Objective) -> None:
    logits_AK = examples(objective)
    demand(
        objective.reduce(logits_AK).shape == logits_AK.shape[:1], "`reduce` must return one value for each anchor's row"
    )
    alone_A = torch.cat([objective.reduce(row_K[None]) for row_K in logits_AK])
    demand_equal(
        alone_A, objective.reduce(logits_AK), "`reduce` lets the rows of a tile mix: a row alone gives another value"
    )


def examples(objective: Objective) -> Tensor:
    return PairProblem.of(objective, GROUPS[0]).logits()[ROWS_A]


def merges_tiles(objective: Objective) -> None:
    logits_AK = examples(objective)
    parts = [objective.reduce(part) for part in torch.split(logits_AK, [2, 3, 4], dim=1)]
    merged_A = objective.merge(objective.merge(parts[0], parts[1]), parts[2])
    sentence = "`merge` of two tiles' reductions is not the reduction of both tiles together"
    demand_equal(merged_A, objective.reduce(logits_AK), sentence)


def differentiates(objective: Objective) -> None:
    logits_AK = examples(objective).requires_grad_()
    reduced_A = objective.reduce(logits_AK)
    (expected_AK,) = torch.autograd.grad(reduced_A.sum(), logits_AK)
    logits_AK, reduced_A = logits_AK.detach(), reduced_A.detach()
    found_AK = objective.slope(logits_AK, reduced_A[:, None])
    demand_equal(found_AK, expected_AK, "`slope` is not the derivative of `reduce`")
    turned_KA = objective.slope(logits_AK.T, reduced_A[None, :])
    demand_equal(turned_KA.T, expected_AK, "`slope` must let `reduced` broadcast: it comes as a column or as a row")


def writes_to_nothing(objective: Objective) -> None:
    logits_AK = examples(objective)
    before_AK, reduced_A = logits_AK.clone(), objective.reduce(logits_AK)
    demand(torch.equal(logits_AK, before_AK), "`reduce` writes to its logits")
    objective.slope(logits_AK, reduced_A[:, None])
    demand(torch.equal(logits_AK, before_AK), "`slope` writes to its logits")


def passes_over_masked(objective: Objective) -> None:
    logits_AK = examples(objective)
    masked_AK = torch.cat([logits_AK, torch.full_like(logits_AK[:, :2], -torch.inf)], dim=1)
    reduced_A = objective.reduce(logits_AK)
    demand_equal(objective.reduce(masked_AK), reduced_A, "`reduce` must pass over masked keys, whose logits are −inf")
    slope_AK = objective.slope(masked_AK, reduced_A[:, None])
    demand_equal(
        slope_AK[:, -2:], torch.zeros_like(slope_AK[:, -2:]), "`slope` must be 0 at masked keys (logits of −inf)"
    )


def weighs_each_row_alone(objective: Objective) -> None:
    logits_NN = PairProblem.of(objective, GROUPS[0]).logits()
    row = Row(logits_NN.diagonal(), objective.reduce(logits_NN))
    weight_N = objective.row_weight(row)
    if weight_N is None:
        return
    demand(weight_N.shape == row.reduced.shape, "`row_weight` must return one value for each anchor, or None")
    demand(bool(torch.isfinite(weight_N).all()), "`row_weight` is not finite")
    some = objective.row_weight(Row(row.positive[ROWS_A], row.reduced[ROWS_A]))
    demand(some is not None, "`row_weight` weighs some batches and not others")
    assert some is not None
    demand_equal(
        some, weight_N[ROWS_A], "`row_weight` lets anchors mix: a rank sees its own alone, and would weigh otherwise"
    )


def is_as_symmetric_as_it_says(objective: Objective) -> None:
    logits_NN = PairProblem.of(objective, GROUPS[1]).logits()
    if objective.symmetric:
        there, back = (weighted(objective, direction).mean() for direction in (logits_NN, logits_NN.T))
        demand_equal(there, back, "`symmetric` is set, but the two directions have different losses")


def equals_autograd_in_every_tiling(objective: Objective) -> None:
    for groups in GROUPS:
        problem = PairProblem.of(objective, groups)
        expected = dense(objective, problem)
        for tile in TILES:
            found = answer(problem, problem.solve(objective, tile, World()))
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
    rounded = PairProblem(exact.x_Nd.float(), exact.y_Nd.float(), exact.group_N, torch.tensor([1e4]), bias)
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
    reduces_each_row,
    writes_to_nothing,
    merges_tiles,
    passes_over_masked,
    differentiates,
    weighs_each_row_alone,
    is_as_symmetric_as_it_says,
    equals_autograd_in_every_tiling,
    stays_finite,
    is_the_same_on_two_ranks,
)
