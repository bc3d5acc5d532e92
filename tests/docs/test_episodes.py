"""The memory of docs/episodes.md in a run on two ranks, and the script that reads its vectors."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tercet.data_pipelines.columns import read_column
from tercet.data_pipelines.sources.open import open_source
from tercet.distributed import World
from tercet.plugins import load_plugins
from tercet.testing import on_ranks
from tercet.training.episodes.config import CurateConfig, EpisodesConfig
from tests.training.conftest import world_folder as world_folder
from tests.training.tiny import losses, recipe, run, saved

PAGE = (Path(__file__).resolve().parents[2] / "docs/episodes.md").read_text(encoding="utf-8")


def block(name: str) -> str:
    (found,) = re.findall(rf"```python\n(# {re.escape(name)}.+?)```", PAGE, re.DOTALL)
    return str(found)


def train_with(world: World, plugin: Path, jobs: list[tuple[dict[str, Any], int | None]]) -> None:
    load_plugins([plugin])
    for values, stop in jobs:
        run(world, values, stop)


@pytest.fixture(scope="module")
def trained(world_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the memory of the page, and the same run with an interruption."""
    out = tmp_path_factory.mktemp("episodes")
    plugin = out / "means.py"
    plugin.write_text(block("means.py"), encoding="utf-8")
    means = {
        "memories": {"means": {"field": "image"}}, "episodes": {"every": 2}, "against": {"text": ["means.image"]},
        "pairs": {"image-text": 1.0}, "steps": 5,
    }  # fmt: skip
    whole = recipe(world_folder, out / "whole", **means)
    parts = recipe(world_folder, out / "parts", **means, checkpoint={"every": 3})
    on_ranks(train_with, 2, plugin, [(whole, None), (parts, 3), (parts, None)])
    return out


def test_the_memory_on_the_page_trains_and_resumes(trained: Path, world_folder: Path) -> None:
    assert len(losses(trained / "whole")) == 5
    assert losses(trained / "parts") == losses(trained / "whole")
    one, other = saved(trained / "whole"), saved(trained / "parts")
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    episode = trained / "whole/episodes/step_00000004"
    fingerprint = open_source(str(world_folder / "train")).fingerprint
    vectors = read_column(episode / "vectors/image", fingerprint).values["vector"]
    assert len(vectors) == 96
    mean = vectors.mean(axis=0) / np.linalg.norm(vectors.mean(axis=0))
    typical = read_column(episode / "memories/means/typical", fingerprint)
    np.testing.assert_allclose(typical.values["cosine"], vectors @ mean, rtol=0, atol=1e-5)


def test_the_example_finds_the_pictures_that_are_most_alike(trained: Path, world_folder: Path) -> None:
    script = trained / "alike.py"
    script.write_text(block("alike.py"), encoding="utf-8")
    command = [sys.executable, str(script), str(world_folder / "train"), str(trained / "whole")]
    one, other, cosine = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    source = open_source(str(world_folder / "train"))
    vectors = read_column(trained / "whole/episodes/step_00000004/vectors/image", source.fingerprint).values["vector"]
    best = max(
        (float(vectors[i] @ vectors[j]), source.key(i), source.key(j)) for i in range(96) for j in range(i)
        if vectors[i] @ vectors[j] < 1 - 1e-6
    )  # fmt: skip
    assert float(cosine) == pytest.approx(best[0], abs=1e-3)
    assert {one, other} == set(best[1:])


def test_the_page_lists_every_key() -> None:
    keys = [*EpisodesConfig.model_fields, *CurateConfig.model_fields]
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE) == keys
