"""The recipes of docs/prototypes.md load, its table has all options of the memory, and its script writes features."""

import re
from pathlib import Path

import numpy as np
import pytest

from tercet.data_pipelines.columns import read_column
from tercet.data_pipelines.sources.open import open_source
from tercet.training.prototypes.config import ClusteredQueueConfig, PrototypesConfig
from tercet.training.recipe import load_recipe
from tests.training.conftest import world_folder as world_folder

PAGE = (Path(__file__).resolve().parents[2] / "docs/prototypes.md").read_text(encoding="utf-8")
RECIPES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("number", range(len(RECIPES)))
def test_a_recipe_on_the_page_loads(number: int, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"extends: image_text\n{RECIPES[number]}", encoding="utf-8")
    config = load_recipe(str(tmp_path / "mine.yaml"))
    for term in config.terms[1:]:
        memory = config.memories[term.prototypes]
        if isinstance(memory, ClusteredQueueConfig):
            assert term.against == {"image": (f"{term.prototypes}.{memory.field}",)}
            continue
        assert isinstance(memory, PrototypesConfig)
        outside = {"image": "features", "text": "features"}
        expected = outside if memory.features else {"image": "text", "text": "image"}
        assert memory.teachers(term.prototypes, config.terms) == expected


def test_the_page_names_all_options_of_the_memory() -> None:
    named = {name for row in re.findall(r"^\| (`.*?`) \|", PAGE, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    for memory in (PrototypesConfig, ClusteredQueueConfig):
        assert set(memory.model_fields) - {"kind"} <= named


def test_the_script_writes_a_column(world_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (script,) = re.findall(r"```python\n(# sentences.py.+?)```", PAGE, re.DOTALL)
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "train").symlink_to(world_folder / "train")
    monkeypatch.chdir(tmp_path)
    vectors = np.random.default_rng(0).normal(size=(96, 3))
    np.save("sentences.npy", vectors)
    exec(compile(script, "sentences.py", "exec"), {})
    column = read_column(Path("sentences"), open_source("shards/train").fingerprint)
    np.testing.assert_allclose(column.values["vector"], vectors, rtol=1e-6)
