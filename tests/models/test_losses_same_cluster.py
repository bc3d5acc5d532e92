"""Keys of the anchor's cluster are partial positives: equal to a loop, and to InfoNCE without clusters."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.data_pipelines.sample import Batch, Field
from tercet.distributed import World
from tercet.models.losses.problem import Prototypes
from tercet.models.losses.rows import Rows
from tercet.models.losses.standalone import loss
from tercet.models.losses.terms import Clusters, Known, Outcome, Terms
from tercet.models.term_config import TermConfig
from tercet.testing import check_objective, on_ranks

ITEMS, DIM = 10, 5
GROUPS = [0, 1, 2, 3, 4, 5, 5, 7, 8, 9]  # of samples; 5 and 6 never repel each other
LABELS = {  # of 13 samples, of which the last three are in the queue only
    "image": [0, 0, 1, -1, 2, 0, 0, 1, -1, 2, 0, -1, 2],
    "text": [3, 1, 1, 1, 0, -1, 3, 3, 0, 3, 1, 2, 2],
}
QUEUED = [10, 11, 12, 3]
AGAINST = {"image": ("queue.text", "text.negative")}
SCALE = torch.tensor([5.0], dtype=torch.float64)


def vectors() -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(1)
    x, y = normalize(torch.randn(2, ITEMS, DIM, generator=random, dtype=torch.float64), dim=2)
    return {"image": x, "text": y}


def queued() -> Rows:
    """The captions of some samples, in groups of their own."""
    random = torch.Generator().manual_seed(2)
    z_Nd = normalize(torch.randn(len(QUEUED), DIM, generator=random, dtype=torch.float64), dim=1)
    return Rows.frozen(z_Nd, torch.tensor(QUEUED), torch.tensor(QUEUED))


def wrong() -> Tensor:
    """A wrong caption of each sample."""
    random = torch.Generator().manual_seed(3)
    return normalize(torch.randn(ITEMS, DIM, generator=random, dtype=torch.float64), dim=1)


def clusters(memory: str, field: str, rows: Rows) -> tuple[Prototypes, Tensor]:
    none = torch.zeros(4, 1)
    return Prototypes(none, torch.ones(4, dtype=torch.bool), none), torch.tensor(LABELS[field])[rows.id_N]


def solve(
    world: World, weight: float, tile: int, find: Clusters = clusters, more: bool = False, nearest: int | None = None
) -> Outcome:
    raw: dict[str, Any] = {"name": "term", "between": ["image", "text"], "prototypes": "kept"}
    raw |= {"against": AGAINST} if more else {}
    objective = {"name": "same_cluster", "weight_cluster": weight, "nearest": nearest}
    term = TermConfig.model_validate({**raw, "objective": objective})
    own = list(world.share(range(ITEMS)))
    every = {**vectors(), **({"text.negative": wrong()} if more else {})}
    fields = {name: Field(name[:5], torch.zeros(len(own)), torch.arange(len(own))) for name in every}
    batch = Batch(torch.tensor(own), torch.tensor(GROUPS)[own], fields)
    here, known = {name: rows[own] for name, rows in every.items()}, Known({"queue.text": queued()}, prototypes=find)
    return Terms([term], tile)(batch, here, {"term": (SCALE, None)}, world, known)


def on_two(world: World) -> Outcome:
    return solve(world, 0.4, 4, more=True)


def nearest_on_two(world: World) -> Outcome:
    return solve(world, 0.9, 3, more=True, nearest=1)


def naive(z: dict[str, Tensor], scale: Tensor, weight: float, nearest: int | None = None) -> Tensor:
    """With `text.negative`, pictures also meet wrong captions, which never attract, and the queue."""
    losses, cosines = [], z["image"] @ z["text"].T
    for field, matrix in (("image", cosines), ("text", cosines.T)):
        labels = LABELS[field]
        for i in range(ITEMS):
            open_ = [j for j in range(ITEMS) if j == i or GROUPS[j] != GROUPS[i]]
            logits = {j: scale * matrix[i, j] for j in open_}
            if field == "image" and "text.negative" in z:
                logits |= {("wrong", j): scale * (z["image"][i] @ row) for j, row in enumerate(z["text.negative"])}
                rows = zip(QUEUED, queued().z_Nd, strict=True)
                logits |= {("queue", j): scale * (z["image"][i] @ row) for j, row in rows if j != GROUPS[i]}
            total = torch.stack(list(logits.values())).logsumexp(dim=0)
            sample = {key: key if isinstance(key, int) else key[1] for key in logits if "wrong" not in str(key)}
            mine = [key for key, j in sample.items() if key == i or (labels[j] == labels[i] >= 0)]
            if nearest is not None:
                keys = z["text" if field == "image" else "image"].detach()
                alike = {
                    key: float(keys[i] @ (keys[key] if isinstance(key, int) else queued().z_Nd[QUEUED.index(key[1])]))
                    for key in mine if key != i
                }  # fmt: skip
                mine = [i, *sorted(alike, key=lambda key: -alike[key])[:nearest]]
            target = {key: weight / len(mine) + (1 - weight) * (key == i) for key in mine}
            losses.append(-torch.stack([q * (logits[key] - total) for key, q in target.items()]).sum())
    return torch.stack(losses).mean()


@pytest.mark.parametrize(
    ("weight", "more", "nearest"),
    [(0.4, False, None), (1.0, False, None), (0.4, True, None), (1.0, False, 1), (0.8, True, 1), (0.8, True, 2)],
)
def test_equals_a_loop(weight: float, more: bool, nearest: int | None) -> None:
    """Queued captions of the picture's cluster attract it too. Wrong captions do not, though their sample is in it."""
    given = {**vectors(), **({"text.negative": wrong()} if more else {})}
    z = {name: rows.requires_grad_() for name, rows in given.items()}
    scale = SCALE.clone().requires_grad_()
    expected = naive(z, scale.squeeze(), weight, nearest)
    slopes = torch.autograd.grad(expected, [*z.values(), scale])
    for outcome in (solve(World(), weight, tile, more=more, nearest=nearest) for tile in (2, 100)):
        torch.testing.assert_close(outcome.loss, expected.detach(), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close([outcome.rows[name] for name in z], list(slopes[:-1]), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(outcome.temperatures["term"][0].reshape(1), slopes[-1], rtol=1e-9, atol=1e-12)


def test_as_many_as_the_cluster_has_are_all_of_them() -> None:
    torch.testing.assert_close(solve(World(), 0.4, 4, more=True, nearest=20).loss, on_two(World()).loss)


@pytest.mark.parametrize("case", [on_two, nearest_on_two])
def test_two_processes_equal_one(case: Callable[[World], Outcome]) -> None:
    one, ranks = case(World()), on_ranks(case, 2)
    for rank in ranks:
        torch.testing.assert_close(rank.loss, one.loss, rtol=1e-9, atol=1e-12)
    for name, rows in one.rows.items():
        torch.testing.assert_close(torch.cat([rank.rows[name] for rank in ranks]), rows, rtol=1e-9, atol=1e-12)


def test_without_clusters_it_is_infonce() -> None:
    given = {**vectors(), "scale": SCALE, "groups": torch.tensor(GROUPS)}
    expected = loss("infonce")(**given)
    assert isinstance(expected, Tensor)
    torch.testing.assert_close(solve(World(), 0.4, 4, lambda memory, field, rows: None).loss, expected)
    torch.testing.assert_close(solve(World(), 0.0, 4).loss, expected)

    def alone(memory: str, field: str, rows: Rows) -> tuple[Prototypes, Tensor]:
        return clusters(memory, field, rows)[0], torch.full_like(rows.id_N, -1)

    torch.testing.assert_close(solve(World(), 1.0, 4, alone).loss, expected)


def test_it_meets_the_contract_of_objectives() -> None:
    check_objective("same_cluster")
    check_objective("same_cluster", weight_cluster=1.0, nearest=2)
    check_objective("same_cluster", weight_cluster=1.0, hardness_mode="in_batch_negatives", hardness_strength=2.0)
