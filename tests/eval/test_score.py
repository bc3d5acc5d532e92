"""Similarity and learnability equal loops over the samples, on any number of ranks."""

import math
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.curate.score_group import ScoreGroup
from tercet.data_pipelines.curate.score_table import ScoreTable
from tercet.data_pipelines.curate.score_task import ScoreTask
from tercet.distributed import World
from tercet.errors import UserError
from tercet.eval import learnability as module
from tercet.eval.embedding import embed_data
from tercet.eval.embedding.store import Store
from tercet.eval.learnability import Scorer, Temperature, batches, pair_losses, score_learnability
from tercet.eval.score import score_similarity
from tercet.testing import on_ranks
from tests.data_pipelines.curated import SAMPLES, written
from tests.eval.scored import embedded, on_rank, rows, scored, vector
from tests.eval.stored import tiny

Known = dict[str, dict[int, torch.Tensor]]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("shards"))


def vectors_of(store: Store) -> Known:
    """The first vector of each sample by modality."""
    table, found = store.table(), {}
    for name in table.modalities:
        ids = [table.samples[item].id for item in table.items[name].tolist()]
        found[name] = dict(zip(reversed(ids), table.vectors[name].flip(0), strict=True))
    return found


def test_the_similarity_is_the_cosine_of_each_two_modalities(shards: Path, tmp_path: Path) -> None:
    group = scored(score_similarity, shards, tmp_path)
    known = vectors_of(Store(tmp_path / "store"))
    expected = {}
    for one, other in combinations(("image", "audio", "text"), 2):
        for id in known[one].keys() & known[other].keys():
            cosine = sum(a * b for a, b in zip(known[one][id].tolist(), known[other][id].tolist(), strict=True))
            expected.setdefault(id, {})[f"{one}_{other}"] = pytest.approx(cosine, abs=1e-5)
    assert [row["id"] for row in rows(group)] == sorted(expected)
    for row in rows(group):
        assert row["key"] == f"s{row['id']:03d}"
        for name in ("image_audio", "image_text", "audio_text"):
            assert row[name] == expected[row["id"]].get(name)
    assert len(expected) > SAMPLES / 2
    assert len(group.files("data")) == 3


def twins(task: ScoreTask, store: Store, batch_size: int = 1000) -> ScoreGroup:
    """A learner and a reference with vectors of their own."""
    reference = store.folder.with_name("reference")
    if not reference.exists():
        embedded(Path(task.table.sources["data"].address[0]), reference, task.world, seed=1)
        task.world.barrier()
    learner, other = Scorer("learner", tiny(0), store), Scorer("reference", tiny(1), Store(reference))
    return score_learnability(task, learner, other, batch_size, seed=3)


def naive_loss(one: list[Any], other: list[Any], groups: list[int], at: int, scale: float) -> float:
    """The softmax loss of one pair of a batch."""
    rivals = [j for j in range(len(one)) if j == at or groups[j] != groups[at] or groups[at] < 0]
    forward = sum(math.exp(scale * float(one[at] @ other[j])) for j in rivals)
    backward = sum(math.exp(scale * float(one[j] @ other[at])) for j in rivals)
    positive = math.exp(scale * float(one[at] @ other[at]))
    return -(math.log(positive / forward) + math.log(positive / backward)) / 2


def test_each_loss_belongs_to_its_sample_in_any_batch(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a loss that shows the sample, whatever else is in its batch."""
    drawn: list[int] = []

    def shown(one: torch.Tensor, other: torch.Tensor, group: torch.Tensor, temperature: Temperature) -> torch.Tensor:
        drawn.append(len(one))
        return one[:, 0] + 2 * other[:, 1]

    monkeypatch.setattr(module, "pair_losses", shown)
    found = {row["id"]: row for row in rows(scored(partial(twins, batch_size=8), shards, tmp_path))}
    assert set(drawn) == {8}
    sides = [("learner", "store"), ("reference", "reference")]
    known = {side: vectors_of(Store(tmp_path / folder)) for side, folder in sides}
    for name in ("image", "audio"):
        ids = known["learner"][name].keys() & known["learner"]["text"].keys()
        assert {id for id, row in found.items() if row[f"{name}_text"] is not None} == ids
        for id in ids:
            one, two = (float(vectors[name][id][0] + 2 * vectors["text"][id][1]) for vectors in known.values())
            assert found[id][f"{name}_text_learner"] == pytest.approx(one, abs=1e-5)
            assert found[id][f"{name}_text_reference"] == pytest.approx(two, abs=1e-5)
            assert found[id][f"{name}_text"] == pytest.approx(one - two, abs=1e-5)


def test_in_one_batch_the_losses_are_those_of_the_whole_matrix(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.eval.scored.PART", 64)
    found = rows(scored(twins, shards, tmp_path))
    scale = tiny(0).head.temperature("image-text")[0].item()
    for side, folder in (("learner", "store"), ("reference", "reference")):
        known = vectors_of(Store(tmp_path / folder))
        ids = sorted(known["image"].keys() & known["text"].keys())
        groups = {sample.id: sample.group for sample in Store(tmp_path / folder).table().samples}
        one, other = ([known[name][id].double() for id in ids] for name in ("image", "text"))
        for row in found:
            if row["id"] in ids:
                loss = naive_loss(one, other, [groups[id] for id in ids], ids.index(row["id"]), scale)
                assert row[f"image_text_{side}"] == pytest.approx(loss, abs=1e-4)


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), bias=st.sampled_from([None, -3.0, 0.5]))
def test_pair_losses_equal_a_loop(seed: int, bias: float | None) -> None:
    dice = np.random.default_rng(seed)
    one, other = (torch.tensor(dice.normal(size=(7, 3))) for _ in range(2))
    group = torch.tensor([0, 0, 1, -1, -1, 2, 1])
    found = pair_losses(one, other, group, Temperature(1.7, bias)).tolist()
    for i in range(7):
        if bias is None:
            assert found[i] == pytest.approx(naive_loss(list(one), list(other), group.tolist(), i, 1.7))
            continue
        total = math.log1p(math.exp(-1.7 * float(one[i] @ other[i]) - bias))
        for j in range(7):
            if j != i and not (group[i] == group[j] and group[i] >= 0):
                total += math.log1p(math.exp(1.7 * float(one[i] @ other[j]) + bias)) / 2
                total += math.log1p(math.exp(1.7 * float(one[j] @ other[i]) + bias)) / 2
        assert found[i] == pytest.approx(total)


@pytest.mark.parametrize(("own", "pool", "size"), [(20, 20, 8), (3, 30, 8), (5, 5, 8), (16, 16, 8), (0, 4, 8)])
def test_every_sample_is_scored_once_in_a_full_batch(own: int, pool: int, size: int) -> None:
    found = list(batches(own, pool, size, np.random.default_rng(0)))
    assert sorted(row for rows, count in found for row in rows[:count].tolist()) == list(range(own))
    for rows_, _ in found:
        assert len(set(rows_.tolist())) == len(rows_) == min(size, pool)


@pytest.mark.parametrize("score", [score_similarity, partial(twins, batch_size=8)], ids=["similarity", "learnability"])
def test_two_ranks_write_the_same_scores(score: Any, shards: Path, tmp_path: Path) -> None:
    alone = rows(scored(score, shards, tmp_path / "one"))
    on_ranks(on_rank, 2, score, shards, tmp_path / "two")
    assert rows(ScoreTable(tmp_path / "two" / "scores").group("mine")) == alone


def test_parts_that_exist_are_not_computed_again(shards: Path, tmp_path: Path) -> None:
    group = scored(score_similarity, shards, tmp_path)
    first, *others = group.files("data")
    whole = rows(group)
    first.unlink()
    before = {path: path.stat().st_mtime_ns for path in others}
    assert rows(scored(score_similarity, shards, tmp_path)) == whole
    assert {path: path.stat().st_mtime_ns for path in others} == before


def test_another_model_is_refused_and_bf16_is_another_request(shards: Path, tmp_path: Path) -> None:
    scored(score_similarity, shards, tmp_path)

    def others(task: ScoreTask, store: Store) -> ScoreGroup:
        return score_similarity(task, embedded(shards, tmp_path / "half", World(), precision="bf16")[0])

    with pytest.raises(UserError, match=r"mine holds other values \(weights changed\)"):
        scored(others, shards, tmp_path)


def test_bf16_is_near_fp32(shards: Path, tmp_path: Path) -> None:
    data = DataConfig.model_validate({"train": str(shards), "val": str(shards), "workers": 0, "max_bad": 1.0})
    with patch.object(embed_data, "PIECE", 64):
        whole, half = (
            vectors_of(embed_data.embed_data(tiny(), data, data.val["val"], World(), tmp_path / name, precision=name))
            for name in ("fp32", "bf16")
        )
    differences = [float((row - half[name][id]).norm()) for name, known in whole.items() for id, row in known.items()]
    assert 0 < max(differences) < 0.2


def test_a_model_without_a_common_term_is_refused(shards: Path, tmp_path: Path) -> None:
    def other_terms(task: ScoreTask, store: Store) -> ScoreGroup:
        reference = tiny(1)
        reference.terms = ("views",)
        return score_learnability(task, Scorer("a", tiny(), store), Scorer("b", reference, store), 8, 0)

    with pytest.raises(UserError, match="a and b have no term in common"):
        scored(other_terms, shards, tmp_path)


def test_the_known_vectors_repeat() -> None:
    assert torch.equal(vector(0, "image", 3), vector(0, "image", 43))
