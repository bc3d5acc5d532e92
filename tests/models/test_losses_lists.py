"""Objectives over lists of candidates equal loops over anchors, on one process and on two."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.data_pipelines.sample import Batch, Field
from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.losses.terms import Outcome, Terms
from tercet.models.term_config import ObjectiveConfig, TermConfig
from tercet.testing import on_ranks

ITEMS, DIM = 6, 5
EXISTS = {"image": [0, 1, 2, 4, 5], "text.list": [0, 0, 0, 1, 1, 2, 3, 3, 5, 5, 5, 5]}  # 2 has one candidate, 4 none
NUMBERS = torch.tensor([2.0, 0.0, 1.0, 3.0, 3.0, 1.0, 0.0, 2.0, 0.5, 4.0, 0.5, 1.0], dtype=torch.float64)
SCALE = torch.tensor([4.0], dtype=torch.float64)
NAMES = ("listwise", "graded_list")


def vectors() -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    return {
        name: normalize(torch.randn(len(items), DIM, generator=random, dtype=torch.float64), dim=1)
        for name, items in EXISTS.items()
    }


def solve(world: World, name: str) -> Outcome:
    own = list(world.share(range(ITEMS)))
    fields, here = {}, {}
    for field, items in EXISTS.items():
        rows = [row for row, item in enumerate(items) if item in own]
        item_n = torch.tensor([items[row] - own[0] for row in rows]).long()
        number = NUMBERS[rows] if field == "text.list" else None
        fields[field] = Field(field.partition(".")[0], torch.zeros(len(rows)), item_n, number=number)
        here[field] = vectors()[field][rows]
    objective = ObjectiveConfig.model_validate({"name": name, "temperature": 0.7})
    term = TermConfig(name="lists", between=("image", "text.list"), objective=objective)
    batch = Batch(torch.tensor(own), torch.tensor(own), fields)
    return Terms([term], 3, {"text.list": 4})(batch, here, {"lists": (SCALE, None)}, world)


def solve_all(world: World) -> list[Outcome]:
    return [solve(world, name) for name in NAMES]


def naive(name: str, z: dict[str, Tensor], scale: Tensor) -> Tensor:
    losses = []
    for row, item in enumerate(EXISTS["image"]):
        places = [place for place, owner in enumerate(EXISTS["text.list"]) if owner == item]
        if len(places) < 2:
            continue
        found = torch.stack(
            [(scale * (z["image"][row] @ z["text.list"][place])).squeeze() for place in places]
        ).softmax(0)
        target = (NUMBERS[places] / 0.7).softmax(0)
        if name == "listwise":
            losses.append((target * (target.log() - found.log())).sum())
            continue
        grades = sorted({float(NUMBERS[place]) for place in places})
        distance = scale.new_zeros(())
        for low, high in itertools.pairwise(grades):  # the mass at or below each grade moves to the next one
            below = torch.tensor([bool(NUMBERS[place] <= low) for place in places])
            distance = distance + (high - low) * (target[below].sum() - found[below].sum()).abs()
        losses.append(distance)
    return torch.stack(losses).mean()


@pytest.mark.parametrize("name", NAMES)
def test_loss_and_gradients_equal_a_loop(name: str) -> None:
    z = {field: rows.clone().requires_grad_() for field, rows in vectors().items()}
    scale = SCALE.clone().requires_grad_()
    loss = naive(name, z, scale)
    loss.backward()  # type: ignore[no-untyped-call]
    found = solve(World(), name)
    torch.testing.assert_close(found.loss, loss.detach(), rtol=1e-9, atol=1e-12)
    for field, rows in z.items():
        torch.testing.assert_close(found.rows[field], rows.grad, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.temperatures["lists"][0].reshape(1), scale.grad, rtol=1e-9, atol=1e-12)


def test_two_processes_equal_one() -> None:
    ranks = on_ranks(solve_all, 2)
    for index, name in enumerate(NAMES):
        one = solve(World(), name)
        for rank in ranks:
            torch.testing.assert_close(rank[index].loss, one.loss, rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(rank[index].temperatures, one.temperatures, rtol=1e-9, atol=1e-12)
        for field in EXISTS:
            both = torch.cat([rank[index].rows[field] for rank in ranks])
            torch.testing.assert_close(both, one.rows[field], rtol=1e-9, atol=1e-12)


def test_the_distance_of_a_distribution_to_itself_is_zero() -> None:
    """Where similarities are the numbers themselves, there is nothing to learn."""
    from tercet.models.losses.listwise import GradedList, Listwise

    numbers = torch.tensor([[0.0, 1.0, 2.5, 0.0], [3.0, 1.0, 1.0, 2.0]])
    exists = torch.tensor([[True, True, True, False], [True] * 4])
    logits = (numbers / 0.5).masked_fill(~exists, -torch.inf)
    for kind in (Listwise(temperature=0.5), GradedList(temperature=0.5)):
        torch.testing.assert_close(kind.list_losses(logits, numbers, exists), torch.zeros(2), rtol=0, atol=1e-6)


def test_extra_negatives_and_captions_without_numbers_are_refused() -> None:
    values = {"between": ["image", "text"], "objective": "listwise", "against": {"image": ["text.negative"]}}
    with pytest.raises(UserError, match="against: `listwise` takes no extra negatives; remove it"):
        Terms([TermConfig.model_validate(values)], 3)
    fields = {name: Field(name, torch.zeros(2), torch.arange(2)) for name in ("image", "text")}
    z = {name: torch.eye(2) for name in fields}
    terms = Terms([TermConfig.model_validate({"between": ["image", "text"], "objective": "listwise"})], 3)
    with pytest.raises(UserError, match="the rows of `text` have no numbers"):
        terms(Batch(torch.arange(2), torch.arange(2), fields), z, {"image-text": (torch.ones(1), None)}, World())
