"""`self_distillation` equals a loop over pairs of crops, in every tiling and on two processes, in fp64."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.data_pipelines.sample import Batch, Field
from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.losses.objective import build_term
from tercet.models.losses.problem import Problem
from tercet.models.losses.rows import Rows
from tercet.models.losses.self_distillation import SelfDistillation
from tercet.models.losses.standalone import loss
from tercet.models.losses.terms import Known, Outcome, Terms
from tercet.models.term_config import TermConfig
from tercet.testing import check_objective, on_ranks

ITEMS, K, STEPS, STEP = 6, 5, 20, 3
SCALE = torch.tensor([4.0], dtype=torch.float64)
LOCAL = {"image.local": [0, 0, 0, 1, 2, 2, 4, 4, 4, 5]}  # item 3 has no crops, item 5 no row of the teacher
WHOLE = {"momentum.image": [0, 0, 1, 2, 3, 4, 4]}
SAME = {"image": [0, 0, 0, 1, 2, 2, 3, 3, 5], "momentum.image": [0, 0, 1, 2, 2, 3, 3, 3]}  # item 1 has one crop alone
LAYOUTS = {"other field": LOCAL | WHOLE, "same field": SAME}
CENTRE = {"zero": torch.zeros(()), "vector": torch.linspace(-0.1, 0.2, K, dtype=torch.float64)}


def outputs(rows: int, seed: int) -> Tensor:
    """Cosines with prototypes, which are not unit vectors."""
    random = torch.Generator().manual_seed(seed)
    return torch.tanh(torch.randn(rows, K, generator=random, dtype=torch.float64))


def vectors(layout: str) -> dict[str, Tensor]:
    return {name: outputs(len(items), len(items)) for name, items in LAYOUTS[layout].items()}


def term(layout: str, **options: Any) -> TermConfig:
    options = {"scale": 4, "bounds": [4, 4], "teacher_temperature": [0.2, 0.4], "warmup": 0.5, **options}
    objective = {"name": "self_distillation", **options}
    return TermConfig.model_validate({"name": "term", "between": [*LAYOUTS[layout]], "objective": objective})


def solve(world: World, layout: str, tile: int, centre: str) -> tuple[Outcome, Tensor]:
    own = list(world.share(range(ITEMS)))
    (student, items), (teacher, theirs) = LAYOUTS[layout].items()
    row_n = [row for row, item in enumerate(items) if item in own]
    field = Field("image", torch.zeros(len(row_n)), torch.tensor([items[row] - own[0] for row in row_n]).long())
    batch = Batch(torch.tensor(own), torch.tensor(own), {student: field})
    place = [row for row, item in enumerate(theirs) if item in own]
    item_N = torch.tensor(theirs)
    kept = Rows(vectors(layout)[teacher], slice(place[0], place[-1] + 1), item_N, item_N, item_N)
    known = Known({teacher: kept}, averages={"term": {"centre": CENTRE[centre]}})
    terms = Terms([term(layout)], tile, {student: 3}, range(STEPS))
    given = {student: vectors(layout)[student][row_n]}, {"term": (SCALE, None)}
    return terms(batch, *given, world, known, STEP), terms.item_losses(batch, *given, world, known, STEP)


CASES = [(layout, centre) for layout in LAYOUTS for centre in CENTRE]


def solve_all(world: World) -> list[tuple[Outcome, Tensor]]:
    return [solve(world, layout, 3, centre) for layout, centre in CASES]


@pytest.fixture(scope="module")
def two_ranks() -> list[list[tuple[Outcome, Tensor]]]:
    return on_ranks(solve_all, 2)


def naive(z: Mapping[str, Tensor], scale: Tensor, layout: str, centre: Tensor) -> dict[int, Tensor]:
    """The loss of each item, written out."""
    (student, items), (teacher, theirs) = LAYOUTS[layout].items()
    hot = 0.2 + 0.2 * (STEP / STEPS) / 0.5
    found = {}
    for item in range(ITEMS):
        crops = [z[student][row] for row, one in enumerate(items) if one == item]
        seen = [z[teacher][row].detach() for row, one in enumerate(theirs) if one == item]
        pairs = []
        for number, r_K in enumerate(crops):
            for other, t_K in enumerate(seen):
                if layout == "same field" and number == other:
                    continue
                raised = ((t_K - centre) / hot).exp()
                predicted = (scale.squeeze() * r_K).exp()
                pairs.append(-sum(raised[k] / raised.sum() * (predicted[k] / predicted.sum()).log() for k in range(K)))
        if pairs:
            found[item] = torch.stack(pairs).mean()  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize(("layout", "centre"), CASES)
def test_equals_a_loop_in_every_tiling_and_on_two_processes(
    two_ranks: list[list[tuple[Outcome, Tensor]]], layout: str, centre: str
) -> None:
    student, teacher = LAYOUTS[layout]
    z, scale = vectors(layout), SCALE.clone().requires_grad_()
    z[student].requires_grad_()
    items = naive(z, scale, layout, CENTRE[centre])
    expected = torch.stack([*items.values()]).mean()
    slope_nK, slope = torch.autograd.grad(expected, [z[student], scale])
    ranks = [rank[CASES.index((layout, centre))] for rank in two_ranks]
    joined = torch.cat([outcome.rows[student] for outcome, _ in ranks])
    single = [solve(World(), layout, tile, centre) for tile in (1, 3, 100)]
    for outcome, losses in (*single, *ranks):
        torch.testing.assert_close(outcome.loss, expected.detach(), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(outcome.temperatures["term"][0].reshape(1), slope, rtol=1e-9, atol=1e-12)
        assert teacher not in outcome.rows, "the teacher gets no gradient"
        known = {item: float(one) for item, one in enumerate(losses) if not one.isnan()}
        assert known == pytest.approx({item: float(one.detach()) for item, one in items.items()}, rel=1e-5)
        moved_K = 0.9 * CENTRE[centre] + 0.1 * z[teacher].mean(dim=0)
        torch.testing.assert_close(outcome.averages["term"]["centre"], moved_K, rtol=1e-9, atol=1e-12)
    for found in (*(outcome.rows[student] for outcome, _ in single), joined):
        torch.testing.assert_close(found, slope_nK, rtol=1e-9, atol=1e-12)


def test_measures_are_those_of_all_rows(two_ranks: list[list[tuple[Outcome, Tensor]]]) -> None:
    t_NK = vectors("other field")["momentum.image"]
    p_NK = torch.softmax((t_NK - CENTRE["vector"]) / (0.2 + 0.2 * (STEP / STEPS) / 0.5), dim=1)
    mixed = -(p_NK.mean(dim=0) * p_NK.mean(dim=0).log()).sum()
    each = -(p_NK * p_NK.log()).sum(dim=1).mean()
    expected = {
        "information": float(mixed - each) / math.log(K),
        "entropy": float(mixed) / math.log(K),
        "teacher_std": float(t_NK.std(dim=0, correction=0).mean()),
    }
    for outcome, _ in (solve(World(), "other field", 9, "vector"), *(rank[1] for rank in two_ranks)):
        assert {name: float(value) for name, value in outcome.measures["term"].items()} == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["one prototype", "all alike"])
def test_information_is_zero_if_all_rows_are_alike(kind: str) -> None:
    z = torch.zeros(8, K) if kind == "all alike" else torch.eye(K)[:1].expand(8, K)
    rows = Rows.numbered(z)
    fields, averages = {"image.local": rows, "momentum.image": rows}, {"centre": torch.zeros(())}
    problem = Problem(fields, torch.tensor([10.0]), None, 4, World(), averages=averages)
    measures = SelfDistillation().solve(problem).measures
    assert float(measures["information"]) == pytest.approx(0, abs=1e-6)
    assert float(measures["entropy"]) == pytest.approx(1.0 if kind == "all alike" else 0.0, abs=1e-6)


@pytest.mark.parametrize(("progress", "expected"), [(0.0, 0.04), (0.15, 0.055), (0.3, 0.07), (0.9, 0.07)])
def test_the_temperature_of_the_teacher_warms_up(progress: float, expected: float) -> None:
    assert SelfDistillation().temperature(progress) == pytest.approx(expected)
    assert SelfDistillation(warmup=0).temperature(progress) == 0.07


def of_example(fields: Mapping[str, Tensor], groups: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """Item i has 1 + i % 3 rows of the student, and 1 + i % 2 of the teacher."""
    student, teacher = (
        [z_nK[[row for row, one in enumerate(places(rows)) if one == item]] for item in range(9)]
        for z_nK, rows in zip(fields.values(), (3, 2), strict=True)
    )
    losses = []
    for crops, seen in zip(student, teacher, strict=True):
        pairs = [
            -(torch.softmax(t_K.detach() / 0.04, 0) * torch.log_softmax(scale * r_K, 0)).sum()
            for number, r_K in enumerate(crops)
            for other, t_K in enumerate(seen)
            if number != other
        ]
        losses += [torch.stack(pairs).mean()] if pairs else []
    return torch.stack(losses).mean()


def places(rows: int) -> list[int]:
    return [item for item in range(9) for _ in range(1 + item % rows)]


def test_passes_the_checks_of_an_objective() -> None:
    check_objective("self_distillation", definition=of_example)


def test_the_loss_of_a_module_keeps_its_centre() -> None:
    """In training mode only; and a state that is loaded has it."""
    module, student = loss("self_distillation"), normalize(torch.randn(4, K), dim=1)
    teacher = normalize(torch.randn(4, K), dim=1)
    module(image=student, teacher=teacher, scale=torch.tensor(10.0))
    torch.testing.assert_close(module.centre, 0.1 * teacher.mean(dim=0))
    again = loss("self_distillation")
    again.load_state_dict(module.state_dict())
    assert torch.equal(again.centre, module.centre)
    module.eval()(image=student, teacher=teacher, scale=torch.tensor(10.0))
    assert torch.equal(again.centre, module.centre)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"between": ["momentum.image", "image"]}, "needs a field and one of a momentum encoder, in this order"),
        ({"between": ["image", "text"]}, r"such as \[image.local, momentum.image\]"),
        ({"directions": {"image": 1}}, "term.directions: `self_distillation` does not weigh directions; remove it"),
        ({"teacher_temperature": [0.04, 0]}, r"teacher_temperature is \[0.04, 0\]; give two numbers above 0"),
    ],
)
def test_mistakes_are_errors_of_one_line(changes: dict[str, Any], message: str) -> None:
    objective = {"name": "self_distillation", **{k: v for k, v in changes.items() if k == "teacher_temperature"}}
    more = {key: value for key, value in changes.items() if key != "teacher_temperature"}
    raw = {"name": "term", "between": ["image", "momentum.image"], "objective": objective, **more}
    with pytest.raises(UserError, match=message) as caught:
        build_term(TermConfig.model_validate(raw))
    assert "\n" not in str(caught.value)
