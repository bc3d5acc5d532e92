"""A teacher whose vectors come from columns teaches as the model itself does, on any number of processes."""

from pathlib import Path
from typing import Any

import pytest

from tercet.api.vector_column import embed_column
from tercet.configs.base import build
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.errors import UserError
from tercet.testing import on_ranks
from tercet.training.config import RunConfig
from tercet.training.preflight.checks import ready
from tests.training.test_memory_teacher import exported
from tests.training.test_resume import run_all
from tests.training.tiny import MODEL, losses, recipe

CENTRE = {"crop": None, "worker": "thread"}  # as columns have the pictures
REFERENCES = {"references": {"teacher": "large"}}
TERMS = [
    {"between": ["image", "text"]},
    {"name": "taught", "between": ["image", "text"], "objective": "similarity_distillation", **REFERENCES},
    {"name": "structure", "between": ["text"], "objective": "structure_distillation", **REFERENCES},
]


def taught(data: Path, out: Path, teacher: dict[str, str], **changes: Any) -> dict[str, Any]:
    memories = {"large": {"kind": "teacher", **teacher}}
    values = {"pairs": {}, "terms": TERMS, "memories": memories, "data": {"train": str(data / "train"), **CENTRE}}
    return recipe(data, out, **{"steps": 3, "model": {**MODEL, "audio": None}, **values, **changes})


def test_vectors_of_columns_teach_as_the_model_does(world_folder: Path, tmp_path: Path) -> None:
    model, vectors = {"model": str(exported(tmp_path / "teacher"))}, {"vectors": str(tmp_path / "vectors")}
    embed_column(model["model"], str(world_folder / "train"), tmp_path / "vectors")
    runs = {"model": taught(world_folder, tmp_path / "model", model)}
    runs["vectors"] = taught(world_folder, tmp_path / "columns", vectors)
    two = taught(world_folder, tmp_path / "two", vectors, zero=3, micro_batch=3)
    on_ranks(run_all, 1, [(values, None) for values in runs.values()])
    on_ranks(run_all, 2, [(two, None)])
    found = losses(tmp_path / "columns")
    assert found == pytest.approx(losses(tmp_path / "model"), rel=1e-3), "columns are rounded to fp16"
    assert losses(tmp_path / "two") == pytest.approx(found, rel=2e-5)
    assert len(set(found)) == 3


@pytest.mark.parametrize(
    ("teacher", "mode", "message"),
    [
        ({}, "index", "`memories.large.model` is missing: the MODEL that teaches; or set `vectors` to a folder"),
        ({"model": "runs/a", "vectors": "b"}, "index", "`memories.large.vectors` does not go with `model`"),
        (
            {"vectors": "nowhere"},
            "index",
            "memories.large.vectors: nowhere has no vectors.json; write it: tercet embed",
        ),
        ({"vectors": "b"}, "stream", "which a stream lacks; set data.mode=index"),
    ],
)
def test_mistakes_are_errors_of_one_line(
    world_folder: Path, tmp_path: Path, teacher: dict[str, str], mode: str, message: str
) -> None:
    values = taught(world_folder, tmp_path / "run", teacher)
    values["data"]["mode"] = mode
    with pytest.raises(UserError) as caught:
        ready(build(RunConfig, values, lambda key: "recipe"), OpenedSources())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
