"""Every pair objective equals a loop over anchors and keys that autograd differentiates, in fp64."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.losses import Objective
from tercet.models.losses.anchors import Anchors
from tercet.models.losses.infonce import InfoNCE
from tercet.models.losses.kernel import KEPT, Contrast, contrast
from tercet.models.losses.standalone import loss
from tercet.testing import check_objective, on_ranks
from tests.models.pair_problem import (
    CASES,
    GROUPS,
    Case,
    Problem,
    assert_all_close,
    build,
    cwcl,
    decoupled,
    hard_negative,
    infonce,
    macl,
    soft,
)


@pytest.mark.parametrize("groups", GROUPS.values(), ids=GROUPS)
@pytest.mark.parametrize("extra", [False, True], ids=["", "extra negatives"])
@pytest.mark.parametrize("case", CASES, ids=repr)
def test_loss_and_gradients_equal_a_loop_in_every_tiling(case: Case, extra: bool, groups: list[int]) -> None:
    problem = Problem.of(groups, extra)
    expected = problem.naively(case)
    for tile, kept in product((1, 4, 100), (0, KEPT)):
        assert_all_close(problem.solve(case.objective, tile, kept=kept), expected)


def test_two_processes_get_the_results_of_one() -> None:
    problem = Problem.of(GROUPS["groups"], extra=True)
    objectives = [case.objective for case in CASES]
    ranks = on_ranks(on_one_of_two, 2, objectives, problem)
    for objective, first, second in zip(objectives, *ranks, strict=True):
        joined = [first[0], *map(torch.cat, zip(first[1:4], second[1:4], strict=True)), first[4]]
        assert_all_close(joined, problem.solve(objective, tile=4))


def on_one_of_two(world: World, objectives: list[Objective], problem: Problem) -> list[list[Tensor]]:
    return [problem.solve(objective, 4, world) for objective in objectives]


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_meets_the_contract_of_the_kernel(case: Case) -> None:
    check_objective(case.objective)


class Confused(InfoNCE):
    """InfoNCE whose anchors count 1 / (1 − P)."""

    def row_weight(self, row: Anchors) -> Tensor:
        return 1 / (1 - self.probability(row)).clamp(min=1e-6)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (build("infonce", smoothing=0.0), InfoNCE()),
        (build("hard_negative", alpha=1, beta=0), InfoNCE()),
        (build("hard_negative", alpha=0, beta=0), build("decoupled")),
        (build("decoupled", sigma=1e12), build("decoupled")),
        (build("macl", alpha=0), Confused()),
        (build("cwcl", kernel="sharp", tau_w=1e-4), InfoNCE()),
        (build("soft", weight_soft=0), InfoNCE()),
    ],
    ids=lambda objective: str(objective).partition(" ")[0],
)
@pytest.mark.parametrize("extra", [False, True], ids=["", "extra negatives"])
def test_limits_coincide(one: Objective, other: Objective, extra: bool) -> None:
    problem = Problem.of(GROUPS["groups"], extra)
    assert_all_close(problem.solve(one, tile=4), problem.solve(other, tile=4))


@pytest.mark.parametrize("similarities", ["cross", "relational"])
def test_a_teacher_that_is_sure_of_the_own_key_gives_infonce(similarities: str) -> None:
    problem = Problem.of(GROUPS["distinct"], extra=False)
    sure = replace(problem, teacher=torch.eye(9, dtype=torch.float64).expand(2, 9, 9))
    objective = build("soft", weight_soft=1, temperature=1e-3, similarities=similarities)
    assert_all_close(sure.solve(objective, tile=4), sure.solve(InfoNCE(), tile=4))


def test_smoothing_0_adds_nothing_to_compute() -> None:
    results = [anchors.statistics.keys() for anchors in solved(InfoNCE()).anchors]
    assert results == [{"lse"}, {"lse"}]


def solved(objective: Objective) -> Contrast:
    return contrast(objective, Problem.of(GROUPS["distinct"], extra=False).pair(4, World()), World())


def test_smoothing_is_that_of_torch() -> None:
    problem = Problem.of(GROUPS["distinct"], extra=False)
    logits = problem.scale * problem.x @ problem.y.T
    target = torch.arange(len(logits))
    expected = sum(cross_entropy(turn, target, label_smoothing=0.2) for turn in (logits, logits.T)) / 2
    torch.testing.assert_close(solved(build("infonce", smoothing=0.2)).loss, expected)


def test_the_temperature_of_macl_rises_with_the_alignment() -> None:
    """Its loss is that of α = 0 at the scale 1 / τ, with τ = τ₀ (1 + α A)."""
    problem = Problem.of(GROUPS["distinct"], extra=False)
    aligned = replace(problem, y=normalize(problem.y + 2 * problem.x, dim=1))
    alignment = float((aligned.x * aligned.y).sum(dim=1).mean())
    assert alignment > 0.5
    fixed = replace(aligned, scale=aligned.scale / (1 + 0.8 * alignment))
    found, expected = aligned.solve(build("macl", alpha=0.8), 4), fixed.solve(build("macl", alpha=0), 4)
    assert_all_close(found[:3], expected[:3])
    assert_all_close(found[4:], [expected[4] / (1 + 0.8 * alignment)])


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (Case("infonce", infonce, {"smoothing": 0.1}), lambda own, others: own / (own + others.sum())),
        (Case("decoupled", decoupled), lambda own, others: own / (own + others.sum())),
        (Case("macl", macl, {"alpha": 0}), lambda own, others: own / (own + others.sum())),
        (Case("cwcl", cwcl), lambda own, others: own / (own + others.sum())),
        (Case("soft", soft), lambda own, others: own / (own + others.sum())),
        (
            Case("hard_negative", hard_negative, {"beta": 1.0}),
            lambda own, others: own / (own + len(others) * (others**2).sum() / others.sum()),
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Case) else "",
)
def test_probability_of_the_positive(case: Case, expected: Callable[[Tensor, Tensor], Tensor]) -> None:
    problem = Problem.of(GROUPS["distinct"], extra=False)
    raised = (problem.scale * problem.x @ problem.y.T).exp()
    for anchors, side in zip(solved(case.objective).anchors, (raised, raised.T), strict=True):
        rows = [expected(row[i], torch.cat([row[:i], row[i + 1 :]])) for i, row in enumerate(side)]
        torch.testing.assert_close(case.objective.probability(anchors), torch.stack(rows))


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_without_negatives_the_positive_has_probability_1(case: Case) -> None:
    pair = Problem.of(GROUPS["one group"], extra=False).pair(4, World())
    for anchors in contrast(case.objective, pair, World()).anchors:
        assert torch.equal(case.objective.probability(anchors), torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize("case", [case for case in CASES if not case.objective.references], ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_stays_accurate_at_a_scale_of_100(case: Case, dtype: torch.dtype) -> None:
    """Positives are close, so that the loss of most anchors is near its limit. The reference is the same in fp64."""
    random = torch.Generator().manual_seed(0)
    x = normalize(torch.randn(96, 32, generator=random), dim=1)
    y = normalize(x + 0.1 * torch.randn(96, 32, generator=random), dim=1)
    given = [value.to(dtype).requires_grad_() for value in (x, y)]
    exact = [value.detach().double().requires_grad_() for value in given]
    measured = loss(case.name, tile=40, **case.options)
    found, expected = (
        [total.detach(), *torch.autograd.grad(total, rows)]
        for rows, total in ((rows, measured(*rows, 100.0)) for rows in (given, exact))
    )
    for one, other in zip(found, expected, strict=True):
        assert torch.isfinite(one).all()
        error = float((one.double() - other).norm() / other.norm())
        assert error < (1e-4 if one.dtype == torch.float32 else 4e-3)


def test_the_teacher_of_each_field_comes_by_name() -> None:
    problem = Problem.of(GROUPS["distinct"], extra=False)
    extra = {"image": {"teacher": problem.teacher[0]}, "text": {"teacher": problem.teacher[1]}}
    total = loss("soft")(image=problem.x, text=problem.y, scale=problem.scale, extra=extra)
    torch.testing.assert_close(total, problem.solve(build("soft"), tile=4)[0])


def test_an_ensemble_is_the_mean_of_the_probabilities_of_its_teachers() -> None:
    """Written out for one direction after the other; each teacher has its own temperature."""
    problem = Problem.of(GROUPS["distinct"], extra=False)
    second = torch.roll(problem.teacher, 1, dims=2)[:, torch.randperm(9)]
    names = zip(("image", "text"), problem.teacher, second, strict=True)
    extra = {name: {"teacher": one, "teacher_2": other} for name, one, other in names}
    options = {"weight_soft": 0.7, "temperature": 0.1, "further_temperatures": (0.3,)}
    total = loss("soft", **options)(image=problem.x, text=problem.y, scale=problem.scale, extra=extra)
    expected = torch.zeros((), dtype=torch.float64)
    for turn in (lambda matrix: matrix, lambda matrix: matrix.T):
        taught = [turn(t[0] @ t[1].T / tau).softmax(dim=1) for t, tau in ((problem.teacher, 0.1), (second, 0.3))]
        target = 0.3 * torch.eye(9, dtype=torch.float64) + 0.7 * sum(taught) / 2
        expected = expected + cross_entropy(turn(problem.scale * problem.x @ problem.y.T), target) / 2
    torch.testing.assert_close(total, expected)


@pytest.mark.parametrize("weight_soft", [0.5, 1.0])
def test_a_teacher_at_a_low_temperature_stays_finite_in_fp32(weight_soft: float) -> None:
    exact = Problem.of(GROUPS["groups"], extra=True, scale=100.0)
    tensors = {name: value.float() for name, value in vars(exact).items() if value.is_floating_point()}
    objective = build("soft", weight_soft=weight_soft, temperature=0.01)
    found, expected = replace(exact, **tensors).solve(objective, 4), exact.solve(objective, 4)
    assert_all_close(found, [value.float() for value in expected], tolerance=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "error"),
    [
        ("infonce", {"smoothing": 1.0}, r"objective.smoothing = 1.0: Input should be less than 1"),
        ("decoupled", {"sigma": 0.0}, r"objective.sigma = 0.0: Input should be greater than 0"),
        ("hard_negative", {"beta": -1.0}, r"objective.beta = -1.0: Input should be greater than or equal to 0"),
        ("macl", {"scale": 20.0}, r"objective.scale 20 is not within objective.bounds \[10, 10\]"),
        ("cwcl", {"locked": "image"}, r"objective.locked = 'image': Input should be 'first' or 'second'"),
        ("soft", {"weight_soft": 2.0}, r"objective.weight_soft = 2.0: Input should be less than or equal to 1"),
    ],
)
def test_invalid_options_are_rejected(name: str, options: dict[str, object], error: str) -> None:
    with pytest.raises(UserError, match=error):
        build(name, **options)
