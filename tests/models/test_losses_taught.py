"""Objectives that compare fields with teachers, or pull them to random vectors, equal loops over pairs and rows.

Rows are missing, ranks have unequal numbers of rows, one field has several rows an item, and groups have several items.
"""

from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.data_pipelines.sample import Batch, Field
from tercet.data_pipelines.seeding import keyed
from tercet.distributed import World
from tercet.errors import UserError
from tercet.modality import unnormalised_of
from tercet.models.losses import build_term
from tercet.models.losses.random_alignment import random_vectors
from tercet.models.losses.rows import Rows
from tercet.models.losses.standalone import loss
from tercet.models.losses.terms import Known, Outcome, Terms
from tercet.models.term_config import TermConfig
from tercet.testing import check_objective, on_ranks

ITEMS, DIM, SEED, STEP = 10, 6, 7, 3
GROUPS = [0, 1, 2, 3, 0, 3, 4, 5, 0, 3]
ROWS = {"text.rewrite": 2}
EXISTS = {
    "image": [0, 1, 2, 4, 5, 6, 7, 9],
    "text": [0, 1, 2, 3, 4, 5, 6, 7, 9],
    "text.rewrite": [0, 0, 1, 2, 2, 5, 6, 6, 9],
}
SAMPLES = [40 + item for item in range(ITEMS)]
TEACHERS = {"one": 4, "other": 5, "wide": DIM}  # and their dimensions
TERMS = {
    "one teacher": ("similarity_distillation", ["image", "text"], ["one"]),
    "two teachers": ("similarity_distillation", ["image", "text"], ["one", "other"]),
    "two teachers and several rows": ("similarity_distillation", ["image", "text.rewrite"], ["one", "other"]),
    "structure": ("structure_distillation", ["image", "text.rewrite"], ["other"]),
    "structure of one field": ("structure_distillation", ["text"], ["one"]),
    "random": ("random_alignment", ["image", "text", "text.rewrite"], []),
    "random of two": ("random_alignment", ["image", "text"], []),
    "features of one field": ("feature_distillation", ["text"], ["wide"]),
}
Vectors = Mapping[str, Tensor]


def term(name: str) -> TermConfig:
    objective, between, teachers = TERMS[name]
    references = dict(zip(("teacher", "teacher_2"), teachers, strict=False))
    return TermConfig.model_validate(
        {"name": name, "between": between, "objective": objective, "references": references}
    )


def drawn(seed: int, field: str, width: int) -> Tensor:
    shape = len(EXISTS[field]), width
    return torch.from_numpy(keyed(field, seed).standard_normal(shape))


def whole() -> dict[str, Tensor]:
    """The vectors of the whole batch. Those before normalisation are others, so that the two are told apart."""
    unit = {name: normalize(drawn(0, name, DIM), dim=1) for name in EXISTS}
    return unit | {unnormalised_of(name): 2 * drawn(1, name, DIM) for name in EXISTS}


def taught(teacher: str, field: str) -> Tensor:
    return normalize(drawn(2 + TEACHERS[teacher], field, TEACHERS[teacher]), dim=1)


def solve(world: World, name: str) -> tuple[Outcome, Tensor]:
    own = [*world.share(range(ITEMS))]
    fields, vectors = {}, {}
    for field, items in EXISTS.items():
        here = [row for row, item in enumerate(items) if item in own]
        item_n = torch.tensor([items[row] - own[0] for row in here]).long()
        fields[field] = Field(field.partition(".")[0], torch.zeros(len(here)), item_n)
        vectors |= {name: whole()[name][here] for name in (field, unnormalised_of(field))}
    batch = Batch(torch.tensor([SAMPLES[item] for item in own]), torch.tensor(GROUPS)[own], fields)
    known = Known({f"{one}.{field}": Rows.frozen(taught(one, field)) for one in TEACHERS for field in EXISTS})
    terms = Terms([term(name)], 3, ROWS, seed=SEED)
    temperatures: Any = {name: (torch.tensor([4.0], dtype=torch.float64), None)}
    found = terms(batch, vectors, temperatures, world, known, STEP)
    return found, terms.item_losses(batch, vectors, temperatures, world, known, STEP)


def solve_all(world: World) -> dict[str, tuple[Outcome, Tensor]]:
    return {name: solve(world, name) for name in TERMS}


def rows_of(field: str, number: int) -> dict[int, int]:
    """The row of each item with this number."""
    found: dict[int, list[int]] = {}
    for row, item in enumerate(EXISTS[field]):
        found.setdefault(item, []).append(row)
    return {item: rows[number] for item, rows in found.items() if number < len(rows)}


def huber(x: Tensor) -> Tensor:
    return x.square() / 2 if abs(float(x.detach())) <= 1 else x.abs() - 0.5


def similarity(z: Vectors, fields: list[str], teachers: list[str]) -> Tensor:
    image, text = fields
    parts = []
    for number in range(ROWS.get(text, 1)):
        first, second = rows_of(image, 0), rows_of(text, number)
        items = [item for item in first if item in second]
        found = []
        for one in items:
            for other in items:
                if one == other or GROUPS[one] != GROUPS[other]:
                    rows = first[one], second[other]
                    cosines = [taught(name, image)[rows[0]] @ taught(name, text)[rows[1]] for name in teachers]
                    found.append(huber(z[image][rows[0]] @ z[text][rows[1]] - sum(cosines) / len(cosines)))
        parts.append(torch.stack(found).mean())
    return torch.stack(parts).mean()


def structure(z: Vectors, fields: list[str], teachers: list[str]) -> Tensor:
    (teacher,) = teachers
    total = torch.zeros((), dtype=torch.float64)
    for field in fields:
        pairs = list(combinations(range(len(EXISTS[field])), 2))
        for i, j in pairs:
            distance = (z[field][i] - z[field][j]).norm()
            total = total + huber(distance - (taught(teacher, field)[i] - taught(teacher, field)[j]).norm()) / len(
                pairs
            )
    return total


def random(z: Vectors, fields: list[str], teachers: list[str]) -> Tensor:
    items = {item for field in fields for item in EXISTS[field]}
    total = torch.zeros((), dtype=torch.float64)
    for field in fields:
        for row, item in enumerate(EXISTS[field]):
            noise = torch.from_numpy(keyed("random alignment", SEED + STEP, item=SAMPLES[item]).standard_normal(DIM))
            total = total + (z[unnormalised_of(field)][row] - noise).square().sum() / (DIM * len(items))
    return total


def features(z: Vectors, fields: list[str], teachers: list[str]) -> Tensor:
    (field,), (teacher,) = fields, teachers
    items = {*EXISTS[field]}
    return (z[field] - taught(teacher, field)).square().sum() / len(items)


NAIVE: dict[str, Callable[[Vectors, list[str], list[str]], Tensor]] = {
    "similarity_distillation": similarity,
    "structure_distillation": structure,
    "feature_distillation": features,
    "random_alignment": random,
}


@pytest.fixture(scope="module")
def two_ranks() -> list[dict[str, tuple[Outcome, Tensor]]]:
    return on_ranks(solve_all, 2)


@pytest.mark.parametrize("name", TERMS)
def test_equals_loops_on_one_process_and_on_two(two_ranks: list[dict[str, tuple[Outcome, Tensor]]], name: str) -> None:
    objective, fields, teachers = TERMS[name]
    z = {field: rows.clone().requires_grad_() for field, rows in whole().items()}
    expected = NAIVE[objective](z, fields, teachers)
    slopes = torch.autograd.grad(expected, [*z.values()], materialize_grads=True)
    found, items = solve(World(), name)
    torch.testing.assert_close(found.loss, expected.detach(), rtol=1e-9, atol=1e-12)
    for field, slope in zip(z, slopes, strict=True):
        torch.testing.assert_close(found.rows[field], slope, rtol=1e-8, atol=1e-11)
        parts = [rank[name][0].rows[field] for rank in two_ranks]
        torch.testing.assert_close(torch.cat(parts), found.rows[field], rtol=1e-9, atol=1e-12)
    for rank in two_ranks:
        torch.testing.assert_close(rank[name][0].loss, found.loss, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(rank[name][1], items, rtol=1e-5, atol=1e-6, equal_nan=True)
    assert torch.isfinite(items).sum() >= 6


@pytest.mark.parametrize("name", ["structure_distillation", "similarity_distillation", "random_alignment"])
def test_the_objective_passes_the_checks(name: str) -> None:
    check_objective(name)


def test_equal_rows_have_a_loss_and_a_gradient() -> None:
    """Their distance has none, so only the other pairs pull them."""
    z = normalize(torch.tensor([[1.0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]]), dim=1)
    extra = {name: {"teacher": torch.eye(3)} for name in ("image", "text")}
    x, y = z.clone().requires_grad_(), z.clone().requires_grad_()
    total = loss("structure_distillation")(image=x, text=y, scale=torch.tensor(1.0), extra=extra)
    total.backward()
    assert total.item() == pytest.approx(2 * (2**0.5 - 0.5) / 3), "of one of three pairs, in two fields"
    assert x.grad is not None
    assert torch.equal(x.grad, torch.zeros(3, 3)), "all other distances are those of the teacher"


def test_random_vectors_are_new_in_each_step_and_standard_normal() -> None:
    ids, like = torch.arange(400), torch.zeros(400, 50)
    one, other = random_vectors(1, ids, like), random_vectors(2, ids, like)
    assert torch.equal(one[[5, 3, 3]], random_vectors(1, torch.tensor([5, 3, 3]), like))
    assert abs(float((one * other).mean())) < 0.03
    assert float(one.mean()) == pytest.approx(0, abs=0.03)
    assert float(one.var()) == pytest.approx(1, abs=0.04)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"between": ["image"], "objective": "infonce"}, "`infonce` compares 2 or more fields, not 1; name more, such"),
        ({"between": ["image"], "objective": "align_uniform"}, "`align_uniform` compares 2 or more fields, not 1"),
        ({"between": ["image", "momentum.text"], "objective": "random_alignment"}, "and `momentum.text` has none"),
        ({"projector": {}, "objective": "random_alignment"}, "trains vectors of the joint space; remove it"),
        ({"directions": {"image": 1}, "objective": "random_alignment"}, "does not weigh directions; remove it"),
        (
            {"against": {"image": ["text.wrong"]}, "objective": "structure_distillation"},
            "takes no extra negatives; remove",
        ),
        ({"against": {"image": ["text.wrong"]}, "objective": "similarity_distillation"}, "takes no extra negatives"),
        ({"objective": "similarity_distillation"}, "needs `teacher`; name the vectors to use"),
    ],
)
def test_mistakes_are_errors_of_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        build_term(TermConfig.model_validate({"between": ["image", "text"], **change}))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
