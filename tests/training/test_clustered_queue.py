"""The clustered queue: equal to a loop, the same on two ranks, and a run with it resumes with the same bits."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.configs.base import build
from tercet.data_pipelines.sample import Batch
from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.losses.problem import LABEL
from tercet.models.losses.rows import Rows
from tercet.models.losses.terms import Outcome
from tercet.testing import on_ranks
from tercet.training.config import RunConfig
from tercet.training.memory.memory import StageContext
from tercet.training.prototypes.clustered_queue import ITERATIONS, ClusteredQueue
from tercet.training.prototypes.config import ClusteredQueueConfig
from tests.training.test_resume import run_all
from tests.training.tiny import assert_same_run, losses, recipe

DIM, CLUSTERS, SIZE, BATCH, DECAY, ENTROPY = 4, 3, 20, 8, 0.6, 0.1
STEPS, FULL = 6, 3  # the queue is full after three steps


def rows_of(step: int) -> Rows:
    """A batch of 8 items, in some order of ids. The last item has no vector."""
    random = torch.Generator().manual_seed(step)
    z_Nd = normalize(torch.randn(BATCH - 1, DIM, generator=random), dim=1)
    id_N = torch.randperm(50, generator=random)[: BATCH - 1]
    return Rows(z_Nd, slice(0, 0), torch.arange(BATCH - 1), id_N + 100, id_N)


def queue(world: World, start: int = 0) -> ClusteredQueue:
    config = ClusteredQueueConfig(
        field="text", encoder="momentum", clusters=CLUSTERS, size=SIZE, decay=DECAY, entropy=ENTROPY, start=start
    )
    run = SimpleNamespace(steps=STEPS, seed=7, terms=[], fields={})
    context = SimpleNamespace(config=run, world=world, dim=DIM, plan=SimpleNamespace(shares=[]))
    return ClusteredQueue(config, cast(StageContext, context))


def learn(kept: ClusteredQueue, step: int) -> None:
    kept.after(cast(Batch, None), cast(Outcome, SimpleNamespace(frozen={"momentum.text": rows_of(step)})))


def states(world: World) -> list[dict[str, Tensor]]:
    kept, found = queue(world), []
    for step in range(STEPS):
        learn(kept, step)
        parts = {saved.name.split("/")[-1]: saved.value.clone() for saved in kept.state()}
        found.append(parts)
    return found


def plan_of(cost: list[list[float]]) -> list[list[float]]:
    """Scales rows and columns of exp(−cost / entropy) in turn, until all rows and all columns have the same sum."""
    plan = [[math.exp(-value / ENTROPY) for value in row] for row in cost]
    for _ in range(ITERATIONS):
        sums = [sum(row[k] for row in plan) for k in range(CLUSTERS)]
        plan = [[value / sums[k] / CLUSTERS for k, value in enumerate(row)] for row in plan]
        plan = [[value / sum(row) / len(plan) for value in row] for row in plan]
    return plan


def dot(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(one, other, strict=True))


def largest(values: Sequence[float]) -> int:
    return max(range(len(values)), key=lambda place: values[place])


def test_each_step_equals_a_loop() -> None:
    """From the first centroids on, which are those of K-means."""
    found = states(World())
    kept: list[tuple[int, list[float], int]] = []  # id, vector and cluster
    centroids: list[list[float]] = []
    for step in range(STEPS):
        rows = rows_of(step)
        new = sorted(zip(rows.id_N.tolist(), rows.z_Nd.tolist(), strict=True))
        labels = [-1] * len(new)
        if centroids:
            costs = [[1 - dot(z, c) for c in centroids] for _, z in new]
            labels = [largest(row) for row in plan_of(costs)]
        kept = [*kept, *((id, z, label) for (id, z), label in zip(new, labels, strict=True))][-SIZE:]
        if centroids:
            for k in range(CLUSTERS):
                members = [z for _, z, label in kept if label == k]
                if members:
                    mean = [sum(column) / len(members) for column in zip(*members, strict=True)]
                    mixed = [DECAY * c + (1 - DECAY) * m for c, m in zip(centroids[k], mean, strict=True)]
                    centroids[k] = [value / math.hypot(*mixed) for value in mixed]
        elif len(kept) == SIZE:
            centroids = found[step]["centroids"].tolist()
            kept = [(id, z, largest([dot(z, c) for c in centroids])) for id, z, _ in kept]
        assert found[step]["ids"].tolist() == [id for id, _, _ in kept]
        assert found[step]["labels"].tolist() == [label for _, _, label in kept]
        torch.testing.assert_close(found[step]["vectors"], torch.tensor([z for _, z, _ in kept]))
        assert len(found[step]["centroids"]) == len(centroids)
        if centroids:
            torch.testing.assert_close(found[step]["centroids"], torch.tensor(centroids), rtol=1e-5, atol=1e-6)
    assert len(set(found[-1]["labels"].tolist())) == CLUSTERS


def test_the_first_centroids_are_means_of_their_members() -> None:
    first = states(World())[FULL - 1]
    for cluster in range(CLUSTERS):
        member_nd = first["vectors"][first["labels"] == cluster]
        torch.testing.assert_close(first["centroids"][cluster], normalize(member_nd.mean(dim=0), dim=0))


def test_two_ranks_have_the_queue_of_one() -> None:
    (one,), ranks = on_ranks(states, 1), on_ranks(states, 2)
    for rank in ranks:
        for own, other in zip(one, rank, strict=True):
            assert own["labels"].tolist() == other["labels"].tolist()
            torch.testing.assert_close(own["centroids"], other["centroids"], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("start", [0, 5])
def test_it_offers_nothing_until_it_is_full_and_has_begun(start: int) -> None:
    kept = queue(World(), start)
    for step in range(STEPS):
        rows = rows_of(step)
        offered = kept.frozen(cast(Batch, None))["text"]
        found = kept.prototypes("image", rows, {"momentum.text": rows})
        assert (len(offered) == SIZE) == (found is not None) == (step >= max(FULL, start))
        learn(kept, step)


def test_a_row_is_in_the_cluster_of_the_momentum_vector_of_its_item() -> None:
    """Item 7 has no such vector. Those of the queue have their own cluster, and other kept vectors none."""
    kept = queue(World())
    for step in range(STEPS):
        learn(kept, step)
    encoded = rows_of(9)
    images = Rows.numbered(torch.zeros(BATCH, DIM))
    found = kept.prototypes("image", images, {"momentum.text": encoded})
    assert found is not None
    nearest = [largest([dot(z, c) for c in kept.centroid_Kd.tolist()]) for z in encoded.z_Nd.tolist()]
    assert found[1].tolist() == [*nearest, -1]
    own = kept.frozen(cast(Batch, None))["text"]
    again = kept.prototypes("image", own, {"momentum.text": encoded})
    assert again is not None
    assert again[1].tolist() == kept.rows.extra[LABEL].tolist()
    others = kept.prototypes("image", Rows.frozen(torch.zeros(2, DIM)), {"momentum.text": encoded})
    assert others is not None
    assert others[1].tolist() == [-1, -1]
    assert own.own == slice(0, 0), "no rank computes a gradient of these rows"


def test_a_batch_without_vectors_moves_only_the_centroids() -> None:
    kept = queue(World())
    for step in range(STEPS):
        learn(kept, step)
    before, centroid_Kd = kept.rows, kept.centroid_Kd
    none = Rows.frozen(torch.zeros(0, DIM))
    kept.after(cast(Batch, None), cast(Outcome, SimpleNamespace(frozen={"momentum.text": none})))
    assert torch.equal(kept.rows.z_Nd, before.z_Nd)
    assert torch.equal(kept.rows.extra[LABEL], before.extra[LABEL])
    assert not torch.equal(kept.centroid_Kd, centroid_Kd)


def enriched(data: Path, out: Path, **changes: Any) -> dict[str, Any]:
    """The queue of 40 is full after three batches of 16."""
    term = {
        "name": "enriched", "between": ["image", "momentum.text"], "against": {"image": ["bank.text"]},
        "prototypes": "bank", "objective": {"name": "same_cluster", "weight_cluster": 1.0, "nearest": 3},
    }  # fmt: skip
    bank = {"kind": "clustered_queue", "field": "text", "encoder": "momentum", "clusters": 4, "size": 40}
    memories = {"momentum": {"decay": 0.9}, "bank": bank | changes.pop("bank", {})}
    terms = [{"between": ["image", "text"]}, term]
    values = recipe(data, out, terms=terms, memories=memories, steps=STEPS, ema=None, **changes)
    del values["pairs"]
    return values


def test_runs_on_one_and_two_processes_are_alike_and_resume_bit_equal(world_folder: Path, tmp_path: Path) -> None:
    one, whole, parts = (enriched(world_folder, tmp_path / name, zero=2) for name in ("one", "whole", "parts"))
    on_ranks(run_all, 1, [(one, None)])
    parts |= {"checkpoint": {"every": 2}}
    on_ranks(run_all, 2, [(whole, None), (parts, 5), (parts, None)])
    assert losses(tmp_path / "one") == pytest.approx(losses(tmp_path / "whole"), rel=1e-4)
    tensors = assert_same_run(tmp_path / "whole", tmp_path / "parts")
    labels = next(value for name, value in tensors.items() if name.startswith("memory/bank/") and "labels" in name)
    assert len(labels) == 40
    assert len(labels.unique()) == 4


def test_it_changes_the_loss_once_it_is_full(world_folder: Path, tmp_path: Path) -> None:
    """Until then, the term is InfoNCE."""
    plain = enriched(world_folder, tmp_path / "plain")
    plain["terms"][1] = {"name": "enriched", "between": ["image", "momentum.text"]}
    on_ranks(run_all, 1, [(enriched(world_folder, tmp_path / "on"), None), (plain, None)])
    on, off = (
        [json.loads(line)["loss/enriched"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("on", "plain")
    )
    assert on[:FULL] == pytest.approx(off[:FULL], rel=1e-6)
    assert all(abs(one - other) > 1e-2 for one, other in zip(on[FULL:], off[FULL:], strict=True))


@pytest.mark.parametrize(
    ("bank", "message"),
    [
        ({"encoder": "slow"}, r"`memories.bank.encoder` is `slow`, but no memory of this name is a momentum encoder"),
        ({"field": "image.local"}, r"`memories.bank.field` `image.local` is not trained"),
        ({"clusters": 41}, r"`memories.bank.clusters` is 41, more than the vectors that it keeps, `size`"),
    ],
)
def test_mistakes_are_errors_of_one_line(bank: dict[str, Any], message: str) -> None:
    values = enriched(Path("shards"), Path("out"), bank=bank)
    with pytest.raises(UserError, match=message):
        build(RunConfig, {key: value for key, value in values.items() if value is not None}, lambda key: "recipe")
