"""DRRho over samples has the gradient of the robust loss, which the loop over anchors cannot know."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tercet.distributed import World
from tercet.models.losses.infonce import InfoNCE
from tercet.models.losses.kernel import contrast
from tercet.testing import check_objective
from tests.models.pair_problem import GROUPS, Problem, assert_all_close, build


def robust(problem: Problem, temperature: float, reference_scale: float) -> list[Tensor]:
    """Autograd through T log 1/N Σ e^((L − L')/T) of each direction, over whole matrices."""
    leaves = [value.clone().requires_grad_() for value in (problem.x, problem.y, problem.scale)]
    x, y, scale = leaves
    closed = (problem.groups[:, None] == problem.groups) & ~torch.eye(len(x), dtype=torch.bool)
    learner = (scale * x @ y.T).masked_fill(closed, -torch.inf)
    reference = (reference_scale * problem.teacher[0] @ problem.teacher[1].T).masked_fill(closed, -torch.inf)
    total = x.new_zeros(())
    for own, other in ((learner, reference), (learner.T, reference.T)):
        losses, known = (logits.logsumexp(dim=1) - logits.diagonal() for logits in (own, other))
        total = total + temperature * (((losses - known) / temperature).logsumexp(dim=0) - torch.tensor(len(x)).log())
    return list(torch.autograd.grad(total / 2, leaves))


@pytest.mark.parametrize("groups", GROUPS.values(), ids=GROUPS)
@pytest.mark.parametrize(("temperature", "reference_scale"), [(1.0, None), (0.3, 12.0)])
def test_weights_of_samples_give_the_gradient_of_the_robust_loss(
    temperature: float, reference_scale: float | None, groups: list[int]
) -> None:
    problem = Problem.of(groups, extra=False)
    objective = build("drrho", weigh="samples", temperature=temperature, reference_scale=reference_scale)
    expected = robust(problem, temperature, reference_scale or float(problem.scale))
    for tile in (1, 4, 100):
        _, x, y, _, scale = problem.solve(objective, tile)
        assert_all_close([x, y, scale], expected)


def test_samples_that_only_the_reference_finds_easy_weigh_most() -> None:
    problem = Problem.of(GROUPS["distinct"], extra=False)
    objective = build("drrho", weigh="samples", temperature=0.5)
    anchors = contrast(objective, problem.pair(4, World()), World()).anchors[0].detach()
    weight = objective.row_weight(anchors)
    assert weight is not None
    excess = (anchors.lse - anchors.positive) - (anchors["reference"] - anchors["known"])
    assert weight.argsort().tolist() == excess.argsort().tolist()
    assert float(weight.mean()) == pytest.approx(1.0)


@pytest.mark.parametrize("extra", [False, True], ids=["", "extra negatives"])
def test_limits_are_infonce(extra: bool) -> None:
    problem = Problem.of(GROUPS["groups"], extra)
    for options in ({"reference_scale": 0.0}, {"weigh": "samples", "temperature": 1e9}):
        found = problem.solve(build("drrho", **options), 4)
        assert_all_close(found, problem.solve(InfoNCE(), 4), tolerance=1e-7)


def test_meets_the_contract_of_the_kernel() -> None:
    for weigh in ("negatives", "samples"):
        check_objective("drrho", weigh=weigh)


@pytest.mark.parametrize("weigh", ["negatives", "samples"])
def test_stays_accurate_in_fp32_at_a_scale_of_100(weigh: str) -> None:
    exact = Problem.of(GROUPS["groups"], extra=True, scale=100.0)
    tensors = {name: value.float() for name, value in vars(exact).items() if value.is_floating_point()}
    objective = build("drrho", weigh=weigh)
    found, expected = replace(exact, **tensors).solve(objective, 4), exact.solve(objective, 4)
    for one, other in zip(found, expected, strict=True):
        assert float((one.double() - other).norm()) < 2e-4 * float(other.norm())
