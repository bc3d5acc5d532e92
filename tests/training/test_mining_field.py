"""Captions mined from the data of one run are negatives of the next one, which resumes bit for bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tercet
from tercet.data_pipelines.columns import Column, write_column
from tercet.data_pipelines.sources.open import open_source
from tercet.distributed import World
from tercet.errors import UserError
from tercet.testing import on_ranks
from tercet.training.config import RunConfig
from tercet.training.preflight.checks import dry_run
from tests.training.conftest import world_folder as world_folder
from tests.training.test_resume import run_all
from tests.training.tiny import losses, recipe, run


def test_a_run_is_trained_against_mined_captions(world_folder: Path, tmp_path: Path) -> None:
    """The captions of samples that sound alike; a fifth of the samples have no sound, and so no negatives."""
    plain: dict[str, Any] = {"pairs": {"image-text": 1.0, "audio-text": 1.0}, "steps": 6, "ema": None}
    on_ranks(run_all, 1, [(recipe(world_folder, tmp_path / "first", **plain), None)])
    found = tercet.mine(tmp_path / "first", None, tmp_path / "graph", split="train", query="audio", num_negatives=5)
    assert [60 < one.samples < 96 for one in found.sources] == [True]

    mined = {"from": "neighbors", "graph": str(tmp_path / "graph"), "rows": 3}
    against = {"fields": {"text.negative.mined": mined}, "against": {"image": ["text.negative.mined"]}}
    whole = recipe(world_folder, tmp_path / "whole", **plain, **against)
    parts = recipe(world_folder, tmp_path / "parts", checkpoint={"every": 3}, **plain, **against)
    on_ranks(run_all, 1, [(whole, None), (parts, 3), (parts, None)])
    assert len(losses(tmp_path / "whole")) == 6
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert losses(tmp_path / "whole")[0] > losses(tmp_path / "first")[0] + 0.1  # more keys for the same weights


def test_a_stream_has_no_neighbours(world_folder: Path, tmp_path: Path) -> None:
    data = {"train": str(world_folder / "train"), "mode": "stream"}
    fields = {"text.negative.mined": {"from": "neighbors", "graph": "graph"}}
    with pytest.raises(UserError, match=r"`fields.text.negative.mined.graph` needs samples with ids: set `data.mode"):
        tercet.train("image_text", data=data, fields=fields, out=str(tmp_path))


def test_a_run_does_not_resume_with_another_graph(world_folder: Path, tmp_path: Path) -> None:
    """A dry run says so, too."""
    source = open_source(str(world_folder / "train"))
    id_N = np.arange(len(source))
    for shift in (1, 2):
        neighbors = {"neighbors": (id_N[:, None] + shift) % len(source)}
        write_column(tmp_path / f"{shift}", source.fingerprint, Column(id_N, neighbors))
    (tmp_path / "graph").symlink_to(tmp_path / "1")
    mined = {"text.negative.mined": {"from": "neighbors", "graph": str(tmp_path / "graph"), "rows": 1}}
    values = recipe(
        world_folder, tmp_path / "run", pairs={"image-text": 1.0}, steps=4, ema=None, fields=mined,
        against={"image": ["text.negative.mined"]}, checkpoint={"every": 1},
    )  # fmt: skip
    run(World(), values, stop=2)
    dry_run(RunConfig.model_validate(values))
    (tmp_path / "graph").unlink()
    (tmp_path / "graph").symlink_to(tmp_path / "2")
    for again in (lambda: run(World(), values), lambda: dry_run(RunConfig.model_validate(values))):
        with pytest.raises(UserError, match="a neighbour graph that `fields` read for `train` changed since the last"):
            again()
    (tmp_path / "graph").unlink()
    (tmp_path / "graph").symlink_to(tmp_path / "1")
    run(World(), values)
    assert len(losses(tmp_path / "run")) == 4
