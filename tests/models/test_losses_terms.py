"""Terms on two real processes, with missing rows and unequal shares, against one process and against autograd."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, softplus

from tercet.data_pipelines.sample import Batch, Field
from tercet.distributed import World
from tercet.models.config import ObjectiveConfig, TermConfig
from tercet.models.losses.terms import Outcome, Terms
from tercet.testing import on_ranks

ITEMS, DIM = 10, 6
TERMS = (
    TermConfig(between=("image", "text")),
    TermConfig(between=("audio", "text"), objective=ObjectiveConfig(name="sigmoid"), weight=0.7),
    TermConfig(between=("image", "audio"), weight=0.5),
)
# The first rank has two sounds, the second four; of the first one's pictures most are missing.
EXISTS = {"image": [3, 4, 5, 6, 7, 8], "audio": [0, 3, 5, 6, 8, 9], "text": [0, 1, 2, 3, 4, 5, 7, 8, 9]}
NOTHING = {**EXISTS, "audio": [5, 6, 8, 9]}  # no sound at all on the first rank
DISJOINT = {**EXISTS, "audio": [0, 9], "image": [3, 4]}  # no item has both
GROUPS = torch.tensor([0, 1, 2, 3, 0, 3, 4, 5, 0, 3])
TEMPERATURES: dict[str, tuple[Tensor, Tensor | None]] = {
    "image-text": (torch.tensor([4.0], dtype=torch.float64), None),
    "audio-text": (torch.tensor([3.0], dtype=torch.float64), torch.tensor([-1.0], dtype=torch.float64)),
    "image-audio": (torch.tensor([6.0], dtype=torch.float64), None),
}


def shard(layout: Mapping[str, list[int]], world: World) -> tuple[Batch, dict[str, Tensor]]:
    """This rank's items and vectors; the whole batch in a world of one."""
    random = torch.Generator().manual_seed(0)
    own = list(world.share(range(ITEMS)))
    fields, vectors = {}, {}
    for name, items in layout.items():
        whole = normalize(torch.randn(ITEMS, DIM, generator=random, dtype=torch.float64), dim=1)
        here = [item for item in items if item in own]
        fields[name] = Field(name, torch.zeros(len(here)), torch.tensor([item - own[0] for item in here]).long())
        vectors[name] = whole[here]
    return Batch(torch.tensor(own), GROUPS[own], fields), vectors


def solve(world: World, layout: Mapping[str, list[int]], tile: int) -> Outcome:
    batch, vectors = shard(layout, world)
    return Terms(TERMS, tile)(batch, vectors, TEMPERATURES, world)


def solve_all(world: World, layouts: list[Mapping[str, list[int]]]) -> list[Outcome]:
    return [solve(world, layout, tile=3) for layout in layouts]


LAYOUTS: list[Mapping[str, list[int]]] = [EXISTS, NOTHING, DISJOINT]


@pytest.fixture(scope="module")
def two_ranks() -> list[list[Outcome]]:
    return on_ranks(solve_all, 2, LAYOUTS)


@pytest.mark.parametrize("index", range(len(LAYOUTS)))
def test_two_processes_equal_one(two_ranks: list[list[Outcome]], index: int) -> None:
    alone = solve(World(), LAYOUTS[index], tile=ITEMS)
    ranks = [rank[index] for rank in two_ranks]
    for name, rows in alone.rows.items():
        torch.testing.assert_close(torch.cat([rank.rows[name] for rank in ranks]), rows, rtol=1e-12, atol=1e-14)
    for rank in ranks:
        torch.testing.assert_close(rank.loss, alone.loss, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(rank.losses, alone.losses, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(rank.temperatures, alone.temperatures, rtol=1e-12, atol=1e-14)


def test_one_process_equals_autograd_over_the_items_that_have_both() -> None:
    batch, vectors = shard(EXISTS, World())
    leaves = {name: rows.clone().requires_grad_() for name, rows in vectors.items()}
    scales = {term: scale.clone().requires_grad_() for term, (scale, _) in TEMPERATURES.items()}
    total = torch.zeros((), dtype=torch.float64)
    for term in TERMS:
        both = [item for item in EXISTS[term.between[0]] if item in EXISTS[term.between[1]]]
        x, y = (leaves[name][[EXISTS[name].index(item) for item in both]] for name in term.between)
        total = total + term.weight * naive(scales[term.name] * x @ y.T, TEMPERATURES[term.name][1], both)
    total.backward()  # type: ignore[no-untyped-call]
    found = Terms(TERMS, 4)(batch, vectors, TEMPERATURES, World())
    torch.testing.assert_close(found.loss, total.detach(), rtol=1e-12, atol=1e-14)
    for name, leaf in leaves.items():
        torch.testing.assert_close(found.rows[name], leaf.grad, rtol=1e-12, atol=1e-14)
    for name, scale in scales.items():
        torch.testing.assert_close(found.temperatures[name][0].reshape(1), scale.grad, rtol=1e-12, atol=1e-14)


def naive(logits: Tensor, bias: Tensor | None, items: list[int]) -> Tensor:
    itself = torch.eye(len(items), dtype=torch.bool)
    same = GROUPS[items][:, None].eq(GROUPS[items]) & ~itself
    if bias is None:
        masked, label = logits.masked_fill(same, -torch.inf), torch.arange(len(items))
        return (cross_entropy(masked, label) + cross_entropy(masked.T, label)) / 2
    sign = torch.where(itself, 1.0, -1.0)
    return softplus(-sign * (logits + bias)).masked_fill(same, 0.0).sum() / len(items)


def test_a_term_that_no_item_serves_is_exactly_zero(two_ranks: list[list[Outcome]]) -> None:
    for rank in two_ranks:
        assert float(rank[2].losses["image-audio"]) == 0.0
        assert [float(slope) for slope in rank[2].temperatures["image-audio"]] == [0.0, 0.0]
