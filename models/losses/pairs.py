"""Objectives of pairs: each two fields of a term are compared by the kernel.

An item may have several rows of a field. The loss is then the mean over all combinations of a row number of one field
and a row number of the other, and each combination has one row per item. If the rows of one field belong to those of
the other, only equal numbers are combined. For an objective that takes `several`
positives, all rows are in one matrix instead. With more than two fields, the loss is the sum over all pairs of fields.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tercet.models.losses.kernel import Contrast, Pair, contrast, item_losses
from tercet.models.losses.problem import Problem, Solution, Update
from tercet.models.losses.rows import Rows

if TYPE_CHECKING:
    from tercet.models.losses.objective import Objective


@dataclass(frozen=True)
class Part:
    """A pair that the kernel solves: its fields, which of this rank's rows of each it has, and its weight."""

    x: str
    y: str
    pair: Pair
    x_n: Tensor
    y_n: Tensor
    weight: float


def solve_pairs(objective: "Objective", problem: Problem) -> Solution:
    """The loss and gradients of all pairs of fields."""
    whole: Solution | None = None
    for part in parts(objective, problem):
        found = contrast(objective, part.pair, problem.world)
        whole = whole or Solution.empty(problem)  # not earlier: the kernel needs the most memory
        _add(whole, objective, problem, part, found)
    return whole or Solution.empty(problem)


def losses_of_items(objective: "Objective", problem: Problem) -> Iterator[tuple[Tensor, Tensor, float]]:
    """For each pair: its items, the loss of each, and the weight of the pair."""
    for part in parts(objective, problem):
        yield part.pair.x.item_N, item_losses(objective, part.pair, problem.world), part.weight


def parts(objective: "Objective", problem: Problem) -> Iterator[Part]:
    for one, other in combinations(problem.fields, 2):
        x, y = problem.fields[one], problem.fields[other]
        chosen = [_sharing(x, y)] if objective.several else list(by_number(x, y, problem.numbers(one, other)))
        for x_N, y_N in chosen:
            pair = Pair(
                x.pick(x_N),
                y.pick(y_N),
                problem.scale,
                problem.bias,
                problem.tile,
                more_y=tuple(problem.against.get(one, {}).values()),
                more_x=tuple(problem.against.get(other, {}).values()),
                shares=(problem.shares.get(one, 0.0), problem.shares.get(other, 0.0)) if problem.shares else (0.5, 0.5),
                paired=not objective.several,
            )
            yield Part(one, other, pair, x_N[x.own], y_N[y.own], 1 / len(chosen))


def _sharing(x: Rows, y: Rows) -> tuple[Tensor, Tensor]:
    """Which rows have an item that has rows of both fields."""
    return torch.isin(x.item_N, y.item_N), torch.isin(y.item_N, x.item_N)


def by_number(x: Rows, y: Rows, numbers: Iterable[tuple[int, int]]) -> Iterator[tuple[Tensor, Tensor]]:
    """The rows of each of these combinations of row numbers."""
    x_number_N, y_number_N = x.number_N, y.number_N
    for number, other in numbers:
        x_N, y_N = x_number_N == number, y_number_N == other
        yield x_N & torch.isin(x.item_N, y.item_N[y_N]), y_N & torch.isin(y.item_N, x.item_N[x_N])


def positives(problem: Problem) -> Iterator[tuple[str, str, Tensor, Tensor, float]]:
    """Two fields, which rows of each are positives of each other, and the weight of these pairs."""
    pairs = list(combinations(problem.fields, 2))
    for one, other in pairs:
        numbers = problem.numbers(one, other)
        for x_N, y_N in by_number(problem.fields[one], problem.fields[other], numbers):
            yield one, other, x_N, y_N, 1 / (len(pairs) * len(numbers))


def _add(whole: Solution, objective: "Objective", problem: Problem, part: Part, found: Contrast) -> None:
    """Adds the result of a part to that of the term. Its rows are written in place, without a copy of all rows."""
    whole.loss = whole.loss + part.weight * found.loss
    whole.scale, whole.bias = whole.scale + part.weight * found.scale, whole.bias + part.weight * found.bias
    for name, among_n, slope_Ad in ((part.x, part.x_n, found.x_Ad), (part.y, part.y_n, found.y_Ad)):
        whole.rows[name].index_add_(0, torch.nonzero(among_n).flatten(), slope_Ad, alpha=part.weight)
    for anchor, more in ((part.x, found.more_y), (part.y, found.more_x)):
        for name, slope_Ad in zip(problem.against.get(anchor, {}), more, strict=True):
            whole.rows[name].add_(slope_Ad, alpha=part.weight)
    whole.anchors += found.anchors
    for anchors in found.anchors if objective.columns else ():
        field = part.x if anchors.side == "x" else part.y
        values = {f"{field}.{column}": value_N for column, value_N in objective.update(anchors).items()}
        whole.updates.append(Update(anchors.rows.id_N, values))
