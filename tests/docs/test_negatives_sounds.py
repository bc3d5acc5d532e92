"""The recipes of docs/negatives.md about negative pictures and the order of sounds, as they are written there."""

import re
from pathlib import Path
from typing import Any

import yaml

from tercet.data_pipelines.sound_pairs.config import SoundPairsConfig
from tercet.training.config import RunConfig
from tercet.training.recipe import load_recipe

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "negatives.md").read_text(encoding="utf-8")


def blocks(title: str) -> list[dict[str, Any]]:
    """The recipes of one section."""
    (section,) = re.findall(rf"^## {title}\n(.+?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    return [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.+?)```", section, re.DOTALL)]


def config(recipe: str, tmp_path: Path, *parts: dict[str, Any]) -> RunConfig:
    written = {"extends": recipe, "pairs": {}, **{key: value for part in parts for key, value in part.items()}}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(written), encoding="utf-8")
    return load_recipe(str(tmp_path / "own.yaml"))


def test_the_terms_of_negative_pictures_are_those_of_the_recipe(tmp_path: Path) -> None:
    (block,) = blocks("Negative pictures and sounds")
    written, recipe = config("image_text", tmp_path, block), load_recipe("tripletclip")
    assert written.terms == recipe.terms
    assert {name: field.paired for name, field in written.fields.items()} == {
        name: field.paired for name, field in recipe.fields.items()
    }


def test_the_recipes_about_the_order_of_sounds_are_valid(tmp_path: Path) -> None:
    order, stages, evaluation = blocks("Order of sounds")
    written, recipe = config("audio_text", tmp_path, order), load_recipe("tclap")
    assert (written.terms, written.fields) == (recipe.terms, recipe.fields)
    assert pairs_of(written) == pairs_of(recipe)
    staged = config("audio_text", tmp_path, order, stages)
    found = [pairs_of(staged.stage(index))[0] for index in (0, 1)]
    assert [(one.share, one.wrong) for one in found if one] == [(0.5, ("single",)), (0.5, ("order",))]
    judged = config("audio_text", tmp_path, {"data": order["data"] | evaluation["data"]})
    assert [one.sound_pairs is not None for one in judged.data.val.values()] == [False, True]


def pairs_of(config: RunConfig) -> list[SoundPairsConfig | None]:
    return [source.sound_pairs for source in config.data.train.values()]
