"""The objective `prototype` equals a loop over anchors and clusters, in every tiling and on two processes, in fp64."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.data_pipelines.sample import Batch, Field
from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.losses import build_term
from tercet.models.losses.problem import Prototypes
from tercet.models.losses.rows import Rows
from tercet.models.losses.standalone import loss
from tercet.models.losses.terms import Known, Outcome, Terms
from tercet.models.term_config import TermConfig
from tercet.testing import check_objective, on_ranks

ITEMS, DIM, CLUSTERS, ABSENT = 8, 5, 6, 2
EXISTS = {"image": [0, 1, 2, 3, 5, 6], "text": [0, 1, 1, 2, 4, 5, 6, 7]}  # item 1 has two captions
LABELS = {"image": [0, 3, -1, 5, 1, ABSENT, 3, 0], "text": [4, 4, 1, 0, ABSENT, -1, 5, 3]}  # of the samples
KNOWN = Known(prototypes=lambda memory, field, rows: clusters(memory, field, rows))
SCALE = torch.tensor([6.0], dtype=torch.float64)
SHARES: tuple[dict[str, float], ...] = ({}, {"image": 3.0, "text": 1.0}, {"text": 1.0})
Vectors = dict[str, Tensor]


def unit(rows: int, seed: int, dim: int = DIM) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(rows, dim, generator=random, dtype=torch.float64), dim=1)


def vectors() -> Vectors:
    return {name: unit(len(items), len(items)) for name, items in EXISTS.items()}


def clusters(memory: str, field: str, rows: Rows) -> tuple[Prototypes, Tensor]:
    assert memory == "kept"
    centroid_Kd, teacher_Ke = 0.7 * unit(CLUSTERS, len(field)), 0.8 * unit(CLUSTERS, len(field) + 9, 3)
    return Prototypes(centroid_Kd, torch.arange(CLUSTERS) != ABSENT, teacher_Ke), torch.tensor(LABELS[field])[rows.id_N]


def term(directions: dict[str, float], **options: Any) -> TermConfig:
    raw = {"name": "term", "between": ["image", "text"], "prototypes": "kept", "directions": directions}
    return TermConfig.model_validate({**raw, "objective": {"name": "prototype", **options}})


def solve(world: World, config: TermConfig, tile: int, known: Known = KNOWN) -> tuple[Outcome, Tensor]:
    own = list(world.share(range(ITEMS)))
    fields, here = {}, {}
    for name, items in EXISTS.items():
        rows = [row for row, item in enumerate(items) if item in own]
        item_n = torch.tensor([items[row] - own[0] for row in rows]).long()
        fields[name], here[name] = Field(name, torch.zeros(len(rows)), item_n), vectors()[name][rows]
    batch = Batch(torch.tensor(own), torch.tensor(own), fields)
    terms, temperatures = Terms([config], tile, {"text": 2}), {"term": (SCALE, None)}
    return terms(batch, here, temperatures, world, known), terms.item_losses(batch, here, temperatures, world, known)


CASES = [term(shares, temperature=temperature) for shares in SHARES for temperature in (0.3, 0.0)]


def solve_all(world: World) -> list[tuple[Outcome, Tensor]]:
    return [solve(world, config, 3) for config in CASES]


@pytest.fixture(scope="module")
def two_ranks() -> list[list[tuple[Outcome, Tensor]]]:
    return on_ranks(solve_all, 2)


def of_anchor(z_d: Tensor, scale: Tensor, field: str, label: int, temperature: float) -> Tensor:
    """The cross entropy, written out over the clusters that have a centroid."""
    prototypes, _ = clusters("kept", field, Rows.numbered(torch.zeros(ITEMS, DIM)))
    known = [cluster for cluster in range(CLUSTERS) if cluster != ABSENT]
    raised = {k: (scale.squeeze() * (z_d @ prototypes.centroid_Kd[k])).exp() for k in known}
    total = torch.stack(list(raised.values())).sum()
    alike = {k: float(prototypes.teacher_Ke[label] @ prototypes.teacher_Ke[k]) for k in known}
    target = {k: float(k == label) for k in known}
    if temperature:
        weights = {k: math.exp(one / temperature) for k, one in alike.items()}
        target = {k: weight / sum(weights.values()) for k, weight in weights.items()}
    return -torch.stack([target[k] * (raised[k] / total).log() for k in known]).sum()


def naive(z: Vectors, scale: Tensor, config: TermConfig) -> Tensor:
    temperature = (config.objective.model_extra or {})["temperature"]
    total = scale.new_zeros(())
    for field, rows in z.items():
        share = config.shares.get(field, 0.0) if config.directions else 0.5
        labels = [LABELS[field][item] for item in EXISTS[field]]
        losses = [
            of_anchor(z_d, scale, field, label, temperature)
            for z_d, label in zip(rows, labels, strict=True)
            if label not in (-1, ABSENT)
        ]
        total = total + share * torch.stack(losses).sum() / len(losses)
    return total


@pytest.mark.parametrize("index", range(len(CASES)))
def test_equals_a_loop_in_every_tiling_and_on_two_processes(
    two_ranks: list[list[tuple[Outcome, Tensor]]], index: int
) -> None:
    z = {field: rows.requires_grad_() for field, rows in vectors().items()}
    scale = SCALE.clone().requires_grad_()
    expected = naive(z, scale, CASES[index])
    slopes = torch.autograd.grad(expected, [*z.values(), scale], materialize_grads=True)
    for tile in (1, 3, 100):
        found, _ = solve(World(), CASES[index], tile)
        torch.testing.assert_close(found.loss, expected.detach(), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(list(found.rows.values()), list(slopes[:-1]), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(found.temperatures["term"][0].reshape(1), slopes[-1], rtol=1e-9, atol=1e-12)
    for name, slope in zip(z, slopes, strict=False):
        joined = torch.cat([rank[index][0].rows[name] for rank in two_ranks])
        torch.testing.assert_close(joined, slope, rtol=1e-9, atol=1e-12)
    for rank in two_ranks:
        torch.testing.assert_close(rank[index][0].loss, expected.detach(), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(rank[index][0].temperatures["term"][0].reshape(1), slopes[-1])


def test_losses_of_items_are_those_of_their_anchors(two_ranks: list[list[tuple[Outcome, Tensor]]]) -> None:
    """An item's loss is the mean over its rows that have one."""
    _, items = solve(World(), CASES[4], 3)
    for item, label in enumerate(LABELS["text"]):
        rows = [z_d for z_d, owner in zip(vectors()["text"], EXISTS["text"], strict=True) if owner == item]
        if not rows or label in (-1, ABSENT):
            assert math.isnan(float(items[item]))
            continue
        expected = torch.stack([of_anchor(z_d, SCALE, "text", label, 0.3) for z_d in rows]).mean()
        torch.testing.assert_close(items[item].double(), expected, rtol=1e-5, atol=0)
    for rank in two_ranks:
        torch.testing.assert_close(rank[4][1], items, equal_nan=True)


def test_without_prototypes_there_is_no_loss() -> None:
    outcome, _ = solve(World(), CASES[0], 3, Known())
    assert float(outcome.loss) == 0
    assert all(not rows.any() for rows in outcome.rows.values())
    assert float(outcome.temperatures["term"][0]) == 0


def test_the_centroids_get_no_gradient_and_a_memory_has_the_last_word() -> None:
    """A field for which a memory has none yet is left out, and the other one keeps its weight."""

    def only_text(memory: str, field: str, rows: Rows) -> tuple[Prototypes, Tensor] | None:
        return clusters(memory, field, rows) if field == "text" else None

    half, _ = solve(World(), CASES[0], 3, Known(prototypes=only_text))
    whole, _ = solve(World(), CASES[4], 3)
    torch.testing.assert_close(half.loss, whole.loss / 2)
    assert not half.rows["image"].any()


def test_it_meets_the_contract_of_objectives() -> None:
    check_objective("prototype")
    check_objective("prototype", temperature=0.0)


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        ({"prototypes": ""}, "terms.term.prototypes: `prototype` needs a memory that has clusters; name it, such as"),
        ({"objective": "infonce"}, "terms.term.prototypes: `infonce` uses no clusters; remove it"),
        ({"against": {"image": ["text.negative"]}}, "terms.term.against: `prototype` takes no extra negatives"),
        ({"objective": {"name": "prototype", "temperature": -1}}, "objective.temperature = -1"),
    ],
)
def test_terms_that_cannot_be_are_rejected(raw: dict[str, Any], error: str) -> None:
    usual = {"name": "term", "between": ["image", "text"], "objective": "prototype", "prototypes": "kept"}
    with pytest.raises(UserError, match=error):
        build_term(TermConfig.model_validate({**usual, **raw}))


def test_a_loop_of_ones_own_cannot_use_it_and_prefixes_neither() -> None:
    with pytest.raises(UserError, match="the loss `prototype` compares with clusters that a run keeps; train it with"):
        loss("prototype")
    with pytest.raises(UserError, match=r"objective\.of: `prototype` cannot be used on prefixes"):
        loss("matryoshka", dims=[4], of="prototype")
