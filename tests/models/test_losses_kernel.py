"""The kernel equals autograd on the whole matrix of logits, in fp64."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize, softplus

from tercet.distributed import World
from tercet.models.losses import Objective, build_objective, objective
from tercet.models.losses.anchors import Anchors, Tile
from tercet.models.losses.kernel import KEPT, Contrast, Pair, contrast, reduce_rows
from tercet.models.losses.rows import Rows
from tercet.models.term_config import ObjectiveConfig


@objective("focal_nce")
class FocalNCE(Objective):
    """InfoNCE with rows weighted by (1 - P_ii)^gamma, as a user would write it."""

    gamma: float = 2.0

    def row_weight(self, row: Anchors) -> Tensor:
        return (1 - (row.positive - row.lse).exp()) ** self.gamma


@objective("spares_close_keys")
class SparesCloseKeys(Objective):
    """InfoNCE without the keys whose logit is above a limit."""

    limit: float = 1.0

    def dropped(self, tile: Tile) -> Tensor:
        return tile.logits > self.limit


def naive_infonce(logits: Tensor, gamma: float | None = None) -> Tensor:
    """A loop over anchors of both directions."""
    total = logits.new_zeros(())
    for side in (logits, logits.T):
        for i, row in enumerate(side):
            probability = torch.exp(row[i]) / torch.exp(row).sum()
            weight = 1.0 if gamma is None else (1 - probability.detach()) ** gamma
            total = total - weight * torch.log(probability) / (2 * len(side))
    return total


def naive_sigmoid(logits: Tensor) -> Tensor:
    sign = 2 * torch.eye(len(logits), dtype=logits.dtype) - 1
    return softplus(-sign * logits).sum() / len(logits)


NAIVE: dict[str, Callable[[Tensor], Tensor]] = {
    "infonce": naive_infonce,
    "sigmoid": naive_sigmoid,
    "focal_nce": lambda logits: naive_infonce(logits, gamma=2.0),
}


@dataclass(frozen=True)
class Problem:
    x: Tensor
    y: Tensor
    groups: Tensor
    scale: Tensor
    bias: Tensor | None

    @staticmethod
    def of(name: str, groups: list[int], scale: float = 5.0) -> "Problem":
        random = torch.Generator().manual_seed(len(groups))
        x, y = normalize(torch.randn(2, len(groups), 6, generator=random, dtype=torch.float64), dim=-1)
        bias = torch.tensor([-1.5], dtype=torch.float64) if name == "sigmoid" else None
        return Problem(x, y, torch.tensor(groups), torch.tensor([scale], dtype=torch.float64), bias)

    def solve(self, kind: Objective, tile: int, kept: int = KEPT) -> Contrast:
        own = slice(0, len(self.x))
        x, y = (Rows.numbered(side, own, self.groups) for side in (self.x, self.y))
        return contrast(kind, Pair(x, y, self.scale, self.bias, tile, kept=kept), World())

    def naively(self, loss_of: Callable[[Tensor], Tensor]) -> tuple[Tensor, list[Tensor]]:
        variables = [v.clone().requires_grad_() for v in (self.x, self.y, self.scale, self.bias) if v is not None]
        x, y, scale, *bias = variables
        logits = scale * x @ y.T + (bias[0] if bias else 0.0)
        other = ~torch.eye(len(x), dtype=torch.bool)
        same = self.groups[:, None].eq(self.groups[None]) & other
        loss = loss_of(logits.masked_fill(same, -torch.inf))
        return loss.detach(), list(torch.autograd.grad(loss, variables))


def build(name: str) -> Objective:
    return build_objective(ObjectiveConfig(name=name))


def check(found: Contrast, loss: Tensor, gradients: list[Tensor]) -> None:
    torch.testing.assert_close(found.loss, loss, rtol=1e-12, atol=1e-13)
    mine = [found.x_Ad, found.y_Ad, found.scale.reshape(1), found.bias.reshape(1)]
    for one, other in zip(mine, gradients, strict=False):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", NAIVE)
@pytest.mark.parametrize("tile", [1, 4, 9, 100])
@pytest.mark.parametrize("groups", [list(range(9)), [0, 1, 0, 2, 3, 3, 4, 0, 5], [7]], ids=["all", "groups", "one"])
def test_loss_and_gradients_equal_autograd(name: str, tile: int, groups: list[int]) -> None:
    problem = Problem.of(name, groups)
    for kept in (0, KEPT):
        check(problem.solve(build(name), tile, kept), *problem.naively(NAIVE[name]))


@pytest.mark.parametrize("name", NAIVE)
def test_items_of_one_group_do_not_repel_each_other(name: str) -> None:
    """With all negatives masked, only positives remain: zero for a softmax, softplus(−S_ii) for a sigmoid."""
    problem = Problem.of(name, [3] * 5)
    found = problem.solve(build(name), tile=2)
    positive = problem.scale * (problem.x * problem.y).sum(dim=1)
    expected = softplus(-(positive + problem.bias)).mean() if problem.bias is not None else torch.zeros(())
    torch.testing.assert_close(found.loss, expected.double(), rtol=1e-12, atol=1e-13)
    check(found, *problem.naively(NAIVE[name]))


@pytest.mark.parametrize("name", NAIVE)
def test_loss_and_gradients_without_items_are_exactly_zero(name: str) -> None:
    found = Problem.of(name, []).solve(build(name), tile=4)
    assert [float(value) for value in (found.loss, found.scale, found.bias)] == [0.0, 0.0, 0.0]
    assert found.x_Ad.shape == found.y_Ad.shape == (0, 6)


@pytest.mark.parametrize("name", ["infonce", "sigmoid"])
def test_logits_of_ten_thousand_stay_finite_in_fp32(name: str) -> None:
    """At this scale, softmax and softplus are close to a hinge loss."""
    exact = Problem.of(name, list(range(7)), scale=1e4)
    bias = None if exact.bias is None else exact.bias.float()
    rounded = Problem(exact.x.float(), exact.y.float(), exact.groups, exact.scale.float(), bias)
    found = rounded.solve(build(name), tile=3)
    logits = exact.scale * exact.x @ exact.y.T
    positive = logits.diagonal()
    if bias is None:
        hinge = ((logits.amax(1) - positive).mean() + (logits.amax(0) - positive).mean()) / 2
    else:
        hinge = ((logits + bias).relu().sum() - (positive + bias).sum()) / len(logits)
    torch.testing.assert_close(float(found.loss), float(hinge), rtol=1e-5, atol=0.0)
    assert all(torch.isfinite(value).all() for value in (found.x_Ad, found.y_Ad, found.scale, found.bias))


def test_underflow_of_positive_probabilities_gives_no_nan() -> None:
    """Positive logits are −1e4 and negative logits +1e4."""
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    side = [Rows.numbered(z) for z in (x, -x)]
    found = contrast(build("infonce"), Pair(*side, torch.tensor([1e4]), None, 1), World())
    assert float(found.loss) == 2e4
    assert float(found.scale) == 2.0


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_no_probability_exceeds_one(gamma: float) -> None:
    """With equal sides and a high scale, rounding must not make 1 − P negative, or (1 − P)^0.5 is NaN."""
    x = normalize(torch.randn(300, 48, generator=torch.Generator().manual_seed(0)), dim=1)
    side = Rows.numbered(x)
    for tile in (64, 512):
        found = contrast(FocalNCE(gamma=gamma), Pair(side, side, torch.tensor([100.0]), None, tile), World())
        assert all(torch.isfinite(value).all() for value in (found.loss, found.x_Ad, found.y_Ad, found.scale))
        for anchors in found.anchors:
            assert anchors is not None
            assert bool((anchors.positive <= anchors.lse).all())


@dataclass(frozen=True)
class Extra:
    """Extra negatives: wrong captions, which repel all anchors, and a queue, whose rows spare their own group."""

    wrong: Tensor
    queue: Tensor
    queue_groups: Tensor

    @staticmethod
    def of(problem: Problem) -> "Extra":
        random = torch.Generator().manual_seed(1)
        wrong, queue = normalize(torch.randn(2, 5, 6, generator=random, dtype=torch.float64), dim=-1)
        return Extra(wrong, queue, torch.tensor([0, 50, 3, 51, 52]))

    def logits(self, problem: Problem, anchors: Tensor, scale: Tensor, bias: Tensor | float) -> tuple[Tensor, Tensor]:
        """The logits of anchors with the wrong captions and with the queue."""
        own_group = problem.groups[:, None].eq(self.queue_groups[None])
        queue = (scale * anchors @ self.queue.T + bias).masked_fill(own_group, -torch.inf)
        return scale * anchors @ self.wrong.T + bias, queue


@pytest.mark.parametrize("name", ["infonce", "sigmoid"])
@pytest.mark.parametrize("tile", [2, 100])
@pytest.mark.parametrize("kept", [0, KEPT])
def test_extra_negatives_equal_autograd(name: str, tile: int, kept: int) -> None:
    """Anchors of x see trained wrong captions; anchors of y see a frozen queue and wrong captions."""
    problem = Problem.of(name, [0, 1, 0, 2, 3, 3, 4, 0, 5])
    extra = Extra.of(problem)
    own = slice(0, 9)
    x, y = (Rows.numbered(side, own, problem.groups) for side in (problem.x, problem.y))
    wrong = Rows.numbered(extra.wrong).negatives(declared=True)
    queue = Rows.frozen(extra.queue, extra.queue_groups)
    pair = Pair(x, y, problem.scale, problem.bias, tile, more_y=(wrong,), more_x=(queue, wrong), kept=kept)
    found = contrast(build(name), pair, World())

    leaves = [v.clone().requires_grad_() for v in (problem.x, problem.y, problem.scale, extra.wrong)]
    bias = None if problem.bias is None else problem.bias.clone().requires_grad_()
    loss = naively_with_extra(problem, extra, *leaves, bias)
    expected = torch.autograd.grad(loss, [*leaves, *([] if bias is None else [bias])])
    torch.testing.assert_close(found.loss, loss.detach(), rtol=1e-12, atol=1e-13)
    more = found.more_y[0] + found.more_x[1]
    mine = [found.x_Ad, found.y_Ad, found.scale.reshape(1), more, found.bias.reshape(1)]
    for one, other in zip(mine, expected, strict=False):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)
    assert found.more_x[0].shape == (0, 6)


def naively_with_extra(
    problem: Problem, extra: Extra, x: Tensor, y: Tensor, scale: Tensor, wrong: Tensor, bias: Tensor | None
) -> Tensor:
    shift: Tensor | float = 0.0 if bias is None else bias
    trained = Extra(wrong, extra.queue, extra.queue_groups)
    logits = scale * x @ y.T + shift
    itself = torch.eye(len(x), dtype=torch.bool)
    logits = logits.masked_fill(problem.groups[:, None].eq(problem.groups[None]) & ~itself, -torch.inf)
    x_wrong, _ = trained.logits(problem, x, scale, shift)
    y_wrong, y_queue = trained.logits(problem, y, scale, shift)
    if bias is None:
        total = logits.new_zeros(())
        for matrix in (torch.cat([logits, x_wrong], 1), torch.cat([logits.T, y_queue, y_wrong], 1)):
            total = total - (matrix.diagonal() - matrix.logsumexp(1)).mean() / 2
        return total
    entries = naive_sigmoid(logits) * len(x) + sum(softplus(more).sum() for more in (x_wrong, y_queue, y_wrong))
    return entries / len(x)


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_equal_sides_get_equal_gradients(scale: float) -> None:
    problem = Problem.of("infonce", list(range(8)), scale)
    found = Problem(problem.x, problem.x, problem.groups, problem.scale, None).solve(build("infonce"), tile=3)
    torch.testing.assert_close(found.x_Ad, found.y_Ad, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("tile", [2, 100])
def test_the_negatives_and_the_masked_keys_of_each_anchor_are_counted(tile: int) -> None:
    """Two keys of one group are masked, and so are close ones, but no declared negative."""
    groups = [0, 1, 0, 2, 3, 3, 4, 0, 5]
    problem = Problem.of("infonce", groups)
    x, y = (Rows.numbered(side, group_N=problem.groups) for side in (problem.x, problem.y))
    extra = Extra.of(problem)
    wrong, queue = Rows.numbered(extra.wrong).negatives(declared=True), Rows.frozen(extra.queue, extra.queue_groups)
    pair = Pair(x, y, problem.scale, None, tile, more_y=(wrong,), more_x=(queue,))
    directions = contrast(build("spares_close_keys"), pair, World()).anchors
    for anchors, z, keys in zip(directions, (problem.x, problem.y), (problem.y, problem.x), strict=True):
        for i, group in enumerate(groups):
            closed = [
                groups[k] == group or float(problem.scale * z[i] @ keys[k]) > 1.0 for k in range(len(groups)) if k != i
            ]
            if anchors.side == "x":
                closed += [False] * len(wrong)
            else:
                closed += [
                    int(key_group) == group or float(problem.scale * z[i] @ key) > 1.0
                    for key, key_group in zip(queue.z_Nd, queue.group_N, strict=True)
                ]
            assert (int(anchors.masked[i]), int(anchors.negatives[i])) == (sum(closed), len(closed) - sum(closed))
        assert 0 < anchors.masked.sum() < anchors.negatives.sum()


@pytest.mark.parametrize("tile", [2, 100])
def test_statistics_of_given_rows_over_given_keys_equal_whole_rows(tile: int) -> None:
    """Four own anchors of nine, and seven other keys: one of their groups, one of their items."""
    random = torch.Generator().manual_seed(2)
    x, y = (normalize(torch.randn(n, 6, generator=random, dtype=torch.float64), dim=1) for n in (9, 7))
    anchors = Rows.numbered(x, slice(3, 7))
    keys = Rows(
        y,
        slice(0, 0),
        torch.tensor([20, 3, 21, 22, 23, 24, 25]),
        torch.tensor([20, 3, 21, 5, 23, 24, 25]),
        torch.arange(7),
    )
    scale, bias = torch.tensor([5.0], dtype=torch.float64), torch.tensor([-1.0], dtype=torch.float64)
    logits = 5 * x[3:7] @ y.T
    open_to = torch.tensor([[key != 3 or anchor != 2 for key in range(7)] for anchor in range(4)])
    found = reduce_rows(build("infonce"), anchors, keys, scale, None, tile)
    torch.testing.assert_close(
        found["lse"], logits.masked_fill(~open_to, -torch.inf).logsumexp(1), rtol=1e-12, atol=1e-13
    )
    found = reduce_rows(build("sigmoid"), anchors, keys, scale, bias, tile)
    torch.testing.assert_close(found["push"], (softplus(logits - 1) * open_to).sum(1), rtol=1e-12, atol=1e-13)
