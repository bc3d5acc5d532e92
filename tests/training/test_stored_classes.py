"""Stored scores of classes are those of the teacher for the same view, and the loss is their cross entropy."""

from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor

from tercet.api.view_column import embed_views
from tercet.data_pipelines.sample import Batch
from tercet.distributed import World
from tercet.models.losses.terms import Known, Outcome, Terms
from tercet.testing import on_ranks
from tercet.training.pretrained import load_model
from tests.training.test_memory_teacher import exported
from tests.training.test_resume import run_all
from tests.training.test_stored_teacher import refusal, shards, tensors, values, written
from tests.training.tiny import MODEL, assert_same_run, losses, run

assert shards  # a fixture
CLASSES = ("a sound of a red circle", "a low tone", "a blue star", "two tones", "silence")
TERMS = [{"between": ["audio"], "objective": {"name": "prototype"}, "prototypes": "scores"}]


def student(shards: Path, out: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    more = {
        "terms": TERMS, "model": {"dim": 24, "audio": MODEL["audio"]}, "steps": 6, "ema": None,
        "memories": {"scores": {"kind": "stored_classes", "folder": str(folder), "temperature": 0.2}},
    }  # fmt: skip
    found = {**values(shards, out, folder), **more, **changes}
    del found["fields"]
    return found


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def folder(shards: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scores")
    (out / "classes.txt").write_text("\n".join(CLASSES), encoding="utf-8")
    recipe = written(out, student(shards, out, out))
    embed_views(str(teacher), str(recipe), out / "scores", stored="fp32", classes=out / "classes.txt", top=3)
    return out / "scores"


def test_the_most_similar_classes_of_each_view_are_stored(folder: Path) -> None:
    (column,) = tensors(folder)
    assert column["audio.class"].shape == column["audio.score"].shape == (len(column["id"]), 2, 3)
    assert column["audio.class"].dtype == np.int32
    assert (np.diff(column["audio.score"], axis=2) <= 0).all()
    assert "audio" not in column
    assert "text" not in column


def watched(world: World, run_values: dict[str, Any], teacher: Path) -> list[float]:
    """By how much the loss of each step differs from the naive one, with the scores of the teacher itself."""
    model, call, apart = load_model(str(teacher)), Terms.__call__, []
    class_Td = torch.cat([model.embed_text([text]) for text in CLASSES])

    def look(self: Terms, batch: Batch, vectors: Any, t: Any, w: World, known: Known, step: int) -> Outcome:
        outcome = call(self, batch, vectors, t, w, known, step)
        if w.size == 1:
            expected = naive(model.embed(batch)["audio"], vectors["audio"], class_Td, t["audio"][0])
            apart.append(abs(float(outcome.losses["audio"]) - expected))
        return outcome

    with patch.object(Terms, "__call__", look):
        run(world, run_values)
    return apart


def naive(taught: Tensor, own: Tensor, class_Td: Tensor, scale: Tensor) -> float:
    total = 0.0
    for teacher_d, student_d in zip(taught, own, strict=True):
        cosines = [float(teacher_d @ one) for one in class_Td]
        best = sorted(range(len(cosines)), key=lambda place: -cosines[place])[:3]
        weights = [np.exp(cosines[place] / 0.2) for place in best]
        log_p = (scale * student_d @ class_Td.T).log_softmax(dim=-1).flatten()
        total -= sum(w * float(log_p[place]) for w, place in zip(weights, best, strict=True)) / sum(weights)
    return total / len(taught)


def test_the_loss_is_the_cross_entropy_of_the_scores_of_the_teacher_for_the_same_view(
    shards: Path, folder: Path, teacher: Path, tmp_path: Path
) -> None:
    """A fifth of the scenes have no sound. Two ranks compute the same as one."""
    one = watched(World(), student(shards, tmp_path / "1", folder), teacher)
    assert len(one) == 6
    assert max(one) < 1e-5
    on_ranks(watched, 2, student(shards, tmp_path / "2", folder, steps=3), teacher)
    assert losses(tmp_path / "2") == pytest.approx(losses(tmp_path / "1")[:3], rel=1e-5)


def test_a_resumed_run_is_bit_equal(shards: Path, folder: Path, tmp_path: Path) -> None:
    whole = student(shards, tmp_path / "whole", folder)
    parts = student(shards, tmp_path / "parts", folder, checkpoint={"every": 2})
    run_all(World(), [(whole, None), (parts, 3), (parts, None)])
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_folders_of_another_kind_or_space_are_refused(
    shards: Path, folder: Path, teacher: Path, tmp_path: Path
) -> None:
    vectors = tmp_path / "vectors"
    embed_views(str(teacher), str(written(tmp_path, student(shards, tmp_path, tmp_path))), vectors)
    for given, message in (
        (
            student(shards, tmp_path / "run", vectors),
            "has vectors and no scores of classes; use the kind `stored_teacher`",
        ),
        (
            values(shards, tmp_path / "run", folder),
            "has scores of classes and no vectors; use the kind `stored_classes`",
        ),
        (student(shards, tmp_path / "run", folder, model={"dim": 16, "audio": MODEL["audio"]}), "set model.dim=24"),
    ):
        assert message in refusal(lambda given=given: run(World(), given))
