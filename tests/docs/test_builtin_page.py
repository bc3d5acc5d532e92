"""The page about the built-in data names every key of a sample, and its recipe trains."""

import json
import re
from pathlib import Path

import yaml

from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.data_pipelines.builtin.dataset import generate
from tercet.data_pipelines.builtin.render import render
from tercet.testing import on_ranks
from tests.training.test_resume import run_all
from tests.training.tiny import losses, recipe

PAGE = (Path(__file__).resolve().parents[2] / "docs/builtin.md").read_text(encoding="utf-8")
TEXTS = {"languages": {"de": 0, "fr": 0.2}, "rewrites": 2, "synthetic": 0.1, "long": 0.1, "grades": 3}
MORE = {**TEXTS, "negative_media": ("image",)}
WORLD = WorldConfig(train=40, val=8, combinations=0, size=32, seconds=0.5, partly_wrong=0.2, workers=1, **MORE)


def test_the_page_names_every_key_of_a_sample_and_every_setting_that_adds_one() -> None:
    quoted = set(re.findall(r"`(\w+)[\w`:. ]", PAGE))
    assert quoted >= json.loads(str(render(WORLD, "train", 0)["json"])).keys()
    assert quoted >= {name for name, field in WorldConfig.model_fields.items() if field.default in (None, (), {})}


def test_the_recipe_of_the_page_trains(tmp_path: Path) -> None:
    world = generate(WORLD, tmp_path / "world")
    (block,) = re.findall(r"```yaml\n(.+?)```", PAGE, re.DOTALL)
    written = yaml.safe_load(block.replace("data/languages", str(world)))
    tiny = recipe(world, tmp_path / "run", steps=2, pairs={}, fields=written["fields"], terms=written["terms"])
    tiny["data"] |= written["data"]
    on_ranks(run_all, 1, [(tiny, None)])
    assert len(losses(tmp_path / "run")) == 2
