"""Objectives over several positives and graded pairs equal loops over anchors and keys, in fp64."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.data_pipelines.sample import Batch, Field
from tercet.distributed import World
from tercet.models.losses.terms import Outcome, Terms
from tercet.models.term_config import ObjectiveConfig, TermConfig
from tercet.testing import check_objective, on_ranks

ITEMS, DIM = 8, 5
EXISTS = {"image": [0, 1, 2, 3, 5, 6, 7], "text": [0, 0, 0, 1, 2, 2, 3, 4, 6, 6, 7]}  # item 4 has no image, 5 no text
GROUPS = torch.tensor([0, 1, 2, 0, 4, 5, 6, 7])
RELEVANCE = torch.tensor([1.0, 0.5, 0.0, 2.0, 1.0, 0.3, 0.0, 1.5])
SCALE = torch.tensor([4.0], dtype=torch.float64)


def term(**objective: object) -> TermConfig:
    return TermConfig(between=("image", "text"), objective=ObjectiveConfig.model_validate(objective))


TERMS = {
    "together": term(name="multi_positive"),
    "apart": term(name="multi_positive", positives="apart"),
    "graded": term(name="graded"),
}


def vectors() -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    return {
        name: normalize(torch.randn(len(items), DIM, generator=random, dtype=torch.float64), dim=1)
        for name, items in EXISTS.items()
    }


def solve(world: World, name: str, tile: int) -> Outcome:
    own = list(world.share(range(ITEMS)))
    fields, here = {}, {}
    for field, items in EXISTS.items():
        rows = [row for row, item in enumerate(items) if item in own]
        fields[field] = Field(field, torch.zeros(len(rows)), torch.tensor([items[row] - own[0] for row in rows]).long())
        here[field] = vectors()[field][rows]
    batch = Batch(torch.tensor(own), GROUPS[own], fields, values={"relevance": RELEVANCE[own]})
    return Terms([TERMS[name]], tile, {"text": 3})(batch, here, {"image-text": (SCALE, None)}, world)


def solve_all(world: World) -> list[Outcome]:
    return [solve(world, name, 3) for name in TERMS]


def shared_rows() -> dict[str, list[int]]:
    """The rows of the items that have an image and a text."""
    shared = {*EXISTS["image"]} & {*EXISTS["text"]}
    return {field: [row for row, item in enumerate(items) if item in shared] for field, items in EXISTS.items()}


def naive(name: str, z: dict[str, Tensor], scale: Tensor) -> Tensor:
    return naive_graded(z, scale) if name == "graded" else naive_multi(z, scale, apart=name == "apart")


def naive_multi(z: dict[str, Tensor], scale: Tensor, apart: bool) -> Tensor:
    rows, total = shared_rows(), scale.new_zeros(())
    for anchors, keys in (("image", "text"), ("text", "image")):
        for row in rows[anchors]:
            item = EXISTS[anchors][row]
            logits = {key: (scale * (z[anchors][row] @ z[keys][key])).squeeze() for key in rows[keys]}
            positives = [one for key, one in logits.items() if EXISTS[keys][key] == item]
            negatives = [one for key, one in logits.items() if GROUPS[EXISTS[keys][key]] != GROUPS[item]]
            for one in positives:
                beside = [one] if apart else positives
                loss = torch.stack([*beside, *negatives]).logsumexp(0) - one
                total = total + loss / len(positives) / len(rows[anchors]) / 2
    return total


def naive_graded(z: dict[str, Tensor], scale: Tensor) -> Tensor:
    """The mean over the numbers of the captions; each number has the items that have such a caption."""
    rows, total = shared_rows(), scale.new_zeros(())
    of_item: dict[int, list[int]] = {}
    for row in rows["text"]:
        of_item.setdefault(EXISTS["text"][row], []).append(row)
    for number in range(3):
        text = {item: found[number] for item, found in of_item.items() if len(found) > number}
        places = {"text": text, "image": {item: EXISTS["image"].index(item) for item in text}}
        weight = sum(float(RELEVANCE[item]) for item in text)
        for anchors, keys in (("image", "text"), ("text", "image")):
            for item in text:
                logits = {
                    other: (scale * (z[anchors][places[anchors][item]] @ z[keys][places[keys][other]])).squeeze()
                    for other in text
                    if other == item or GROUPS[other] != GROUPS[item]
                }
                loss = torch.stack([*logits.values()]).logsumexp(0) - logits[item]
                total = total + float(RELEVANCE[item]) * loss / weight / 2 / 3
    return total


@pytest.fixture(scope="module")
def two_ranks() -> list[list[Outcome]]:
    return on_ranks(solve_all, 2)


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("tile", [1, 3, 100])
def test_loss_and_gradients_equal_a_loop(name: str, tile: int) -> None:
    z = {field: rows.clone().requires_grad_() for field, rows in vectors().items()}
    scale = SCALE.clone().requires_grad_()
    loss = naive(name, z, scale)
    loss.backward()  # type: ignore[no-untyped-call]
    found = solve(World(), name, tile)
    torch.testing.assert_close(found.loss, loss.detach(), rtol=1e-9, atol=1e-12)
    for field, rows in z.items():
        torch.testing.assert_close(found.rows[field], rows.grad, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.temperatures["image-text"][0].reshape(1), scale.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("index", range(len(TERMS)))
def test_two_processes_equal_one(index: int, two_ranks: list[list[Outcome]]) -> None:
    one = solve(World(), list(TERMS)[index], 3)
    for field in EXISTS:
        both = torch.cat([rank[index].rows[field] for rank in two_ranks])
        torch.testing.assert_close(both, one.rows[field], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(two_ranks[0][index].loss, one.loss, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", TERMS)
def test_one_positive_or_equal_relevance_is_infonce(name: str) -> None:
    exists = range(ITEMS)
    fields = {field: Field(field, torch.zeros(ITEMS), torch.arange(ITEMS)) for field in EXISTS}
    batch = Batch(torch.arange(ITEMS), GROUPS, fields, values={"relevance": torch.full((ITEMS,), 0.4)})
    random = torch.Generator().manual_seed(1)
    z = {
        field: normalize(torch.randn(len(exists), DIM, generator=random, dtype=torch.float64), dim=1)
        for field in EXISTS
    }
    found, plain = (
        Terms([one], 3)(batch, z, {"image-text": (SCALE, None)}, World()) for one in (TERMS[name], term(name="infonce"))
    )
    torch.testing.assert_close(found.loss, plain.loss, rtol=1e-9, atol=1e-12)
    for field in EXISTS:
        torch.testing.assert_close(found.rows[field], plain.rows[field], rtol=1e-9, atol=1e-12)


def test_pairs_without_any_relevance_have_no_loss() -> None:
    fields = {field: Field(field, torch.zeros(3), torch.arange(3)) for field in EXISTS}
    batch = Batch(torch.arange(3), torch.arange(3), fields, values={"relevance": torch.zeros(3)})
    z = {field: normalize(torch.randn(3, DIM, dtype=torch.float64), dim=1) for field in EXISTS}
    found = Terms([TERMS["graded"]], 3)(batch, z, {"image-text": (SCALE, None)}, World())
    assert float(found.loss) == 0.0
    assert all(float(rows.abs().sum()) == 0.0 for rows in found.rows.values())


@pytest.mark.parametrize("positives", ["together", "apart"])
def test_multi_positive_meets_the_contract_of_objectives(positives: str) -> None:
    check_objective("multi_positive", positives=positives)
