"""`multi_teacher` equals a loop over rows and teachers, on one process and two, in fp64."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tercet.data_pipelines.sample import Batch, Field
from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.losses.multi_teacher import MultiTeacher
from tercet.models.losses.objective import build_term
from tercet.models.losses.rows import Rows
from tercet.models.losses.terms import Known, Outcome, Terms
from tercet.models.term_config import TermConfig
from tercet.testing import check_objective, on_ranks

ITEMS, STEP, STEPS = 6, 4, 8
EXISTS = {"image": [0, 1, 1, 2, 3, 4, 5], "text": [0, 2, 2, 5]}
TEACHERS = {"dino": 3, "clip": 2}  # in the problem, they are in the order of their names
SCALE = torch.ones(1, dtype=torch.float64)


def drawn(name: str, width: int) -> Tensor:
    random = np.random.default_rng(sum(map(ord, name)))
    return torch.from_numpy(random.standard_normal((len(EXISTS[name.split(".")[-1]]), width)))


def term(**options: Any) -> TermConfig:
    objective = {"name": "multi_teacher", "cosine": 0.3, "drop": 0.6, "momentum": [0.2, 0.8], **options}
    references = {name: f"{name}_memory" for name in TEACHERS}
    raw = {"name": "term", "between": ["image", "text"], "objective": objective, "references": references}
    return TermConfig.model_validate(raw)


def averages(first: bool) -> dict[str, Tensor]:
    """Those that a run has at first, or those of an earlier step: a row for each field."""
    if first:
        return {"mean": torch.tensor(0.0), "deviation": torch.tensor(1.0)}
    grid = torch.linspace(0.5, 1.5, 10, dtype=torch.float64).view(2, 5)
    return {"mean": grid - 1, "deviation": grid}


def solve(world: World, first: bool, width: int = 5, **options: Any) -> tuple[Outcome, Tensor]:
    own = list(world.share(range(ITEMS)))
    fields, here, frozen = {}, {}, {}
    for name, items in EXISTS.items():
        rows = [row for row, item in enumerate(items) if item in own]
        fields[name] = Field(name, torch.zeros(len(rows)), torch.tensor([items[row] - own[0] for row in rows]).long())
        here[name] = drawn(name, width)[rows]
        frozen |= {f"{one}_memory.{name}": Rows.numbered(drawn(f"{one}.{name}", d)) for one, d in TEACHERS.items()}
    batch = Batch(torch.tensor(own), torch.tensor(own), fields)
    known = Known(frozen, averages={"term": averages(first)})
    terms = Terms([term(**options)], 3, {"image": 2, "text": 2}, range(STEPS), seed=11)
    given = batch, here, {"term": (SCALE, None)}, world, known, STEP
    return terms(*given), terms.item_losses(*given)


def solve_both(world: World) -> list[tuple[Outcome, Tensor]]:
    return [solve(world, first) for first in (True, False)]


@pytest.fixture(scope="module")
def two_ranks() -> list[list[tuple[Outcome, Tensor]]]:
    return on_ranks(solve_both, 2)


def of_row(x_d: Tensor, y_d: Tensor, cosine: float = 0.3) -> Tensor:
    apart = [0.5 * (a - b) ** 2 if abs(a - b) < 1 else abs(a - b) - 0.5 for a, b in zip(x_d, y_d, strict=True)]
    length = (x_d @ x_d).sqrt() * (y_d @ y_d).sqrt()
    return cosine * (1 - x_d @ y_d / length) + (1 - cosine) * torch.stack(apart).mean()


def naive(z: dict[str, Tensor], first: bool) -> tuple[dict[tuple[str, int], list[Tensor]], dict[str, Tensor]]:
    """The losses of each row by teacher, and the new moving averages. Teachers are in the order of their names."""
    momentum = 0.8 - 0.6 * (1 + math.cos(math.pi * STEP / STEPS)) / 2
    losses: dict[tuple[str, int], list[Tensor]] = {}
    new: dict[str, list[Tensor]] = {"mean": [], "deviation": []}
    for place, name in enumerate(EXISTS):
        y_ND = torch.cat([drawn(f"{teacher}.{name}", TEACHERS[teacher]) for teacher in ("clip", "dino")], dim=1)
        before = {key: value if first else value[place] for key, value in averages(first).items()}
        mean_D = momentum * before["mean"] + (1 - momentum) * y_ND.mean(dim=0)
        spread_D = ((y_ND - y_ND.mean(dim=0)) ** 2).mean(dim=0).sqrt()
        deviation_D = momentum * before["deviation"] + (1 - momentum) * spread_D
        new["mean"].append(mean_D)
        new["deviation"].append(deviation_D)
        for row, x_D in enumerate(z[name]):
            y_D = (y_ND[row] - mean_D) / deviation_D
            losses[name, row] = [of_row(x_D[:2], y_D[:2]), of_row(x_D[2:], y_D[2:])]
    return losses, {key: torch.stack(values) for key, values in new.items()}


@pytest.mark.parametrize("first", [True, False])
def test_equals_a_loop_on_one_process_and_two(two_ranks: list[list[tuple[Outcome, Tensor]]], first: bool) -> None:
    """Which teachers are dropped follows from the gradients: a dropped one's part of a row is zero."""
    z = {name: drawn(name, 5).requires_grad_() for name in EXISTS}
    losses, new = naive(z, first)
    alone, ranks = solve(World(), first), [rank[0 if first else 1] for rank in two_ranks]
    kept = {
        (name, row): [bool(alone[0].rows[name][row][part].abs().sum() > 0) for part in (slice(2), slice(2, 5))]
        for name, row in losses
    }
    dropped = [key for key, both in kept.items() if not all(both)]
    assert 0 < len(dropped) < len(kept)
    for key in dropped:
        assert kept[key][int(losses[key][1] > losses[key][0])], "the teacher with the largest loss stays"
    chosen = {key: [loss for loss, keep in zip(losses[key], kept[key], strict=True) if keep] for key in losses}
    count = sum(map(len, chosen.values()))
    expected = torch.stack([loss for some in chosen.values() for loss in some]).sum() / count
    slopes = torch.autograd.grad(expected, [*z.values()])
    items = sorted({item for those in EXISTS.values() for item in those})
    by_item = dict.fromkeys(items, 0.0)
    for (name, row), some in chosen.items():
        by_item[EXISTS[name][row]] += sum(float(loss.detach()) for loss in some) * len(items) / count
    for outcome, item_losses in (alone, *ranks):
        torch.testing.assert_close(outcome.loss, expected.detach(), rtol=1e-9, atol=1e-12)
        assert item_losses.tolist() == pytest.approx([by_item[item] for item in range(ITEMS)], rel=1e-5)
        for key, value in new.items():
            torch.testing.assert_close(outcome.averages["term"][key], value, rtol=1e-6, atol=1e-6)
        assert {"clip/loss", "clip/kept", "dino/loss", "dino/kept"} == outcome.measures["term"].keys()
    for name, slope in zip(z, slopes, strict=True):
        torch.testing.assert_close(alone[0].rows[name], slope, rtol=1e-9, atol=1e-12)
        joined = torch.cat([outcome.rows[name] for outcome, _ in ranks])
        torch.testing.assert_close(joined, slope, rtol=1e-9, atol=1e-12)


def test_without_dropping_all_teachers_count() -> None:
    losses, _ = naive({name: drawn(name, 5) for name in EXISTS}, first=True)
    outcome, _ = solve(World(), True, drop=0.0)
    mean = torch.stack([loss for both in losses.values() for loss in both]).mean()
    torch.testing.assert_close(outcome.loss, mean, rtol=1e-9, atol=1e-12)
    assert float(outcome.measures["term"]["clip/kept"]) == 1


def test_averages_follow_the_first_batch_and_then_slowly() -> None:
    assert [MultiTeacher().momentum_at(share) for share in (0, 0.5, 1)] == pytest.approx([0, 0.4995, 0.999])


def test_passes_the_checks_of_an_objective() -> None:
    check_objective("multi_teacher")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"references": {}}, "terms.term.references: `multi_teacher` needs a teacher or more; name them"),
        ({"between": ["image", "momentum.image"]}, "takes fields of the batch alone; name the memory in `references`"),
        ({"objective": {"name": "multi_teacher", "momentum": [0, 1]}}, r"momentum is \[0, 1\]; give two numbers from"),
        ({"between": ["image"], "objective": "soft", "references": {"teacher": "a"}}, "`soft` compares 2 or more"),
    ],
)
def test_mistakes_are_errors_of_one_line(changes: dict[str, Any], message: str) -> None:
    raw = {"name": "term", "between": ["image", "text"], "objective": "multi_teacher", "references": {"a": "a"}}
    with pytest.raises(UserError, match=message) as caught:
        build_term(TermConfig.model_validate({**raw, **changes}))
    assert "\n" not in str(caught.value)


def test_outputs_of_another_width_are_refused() -> None:
    with pytest.raises(UserError, match=r"of its teachers 2 \+ 3; set projector.teachers of the term to {clip: 2, di"):
        solve(World(), True, width=4)
