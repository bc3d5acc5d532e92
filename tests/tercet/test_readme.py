"""What README and the pages that it links to show is what there is."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from tercet.command import main
from tercet.command.arguments import parse
from tercet.configs.catalogue import recipe_names
from tercet.data_pipelines.captions.groups import GroupReader
from tercet.data_pipelines.captions.reader import CaptionReader
from tercet.data_pipelines.config import DataConfig
from tercet.training.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RECIPES = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
TRAINING = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")


def test_the_table_of_recipes_is_complete() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", RECIPES, re.MULTILINE)) == set(recipe_names())


def test_the_shown_recipe_loads_with_its_stages(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(# mine.yaml.*?)```", RECIPES, re.DOTALL)
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    config = load_recipe(str(tmp_path / "mine.yaml"))
    assert [stage.name for stage in config.stages] == ["align", "tune"]
    towers = [config.stage(index).model.towers["image"] for index in (0, 1)]
    assert [tower and tower.unlocked for tower in towers] == [0, 4]
    assert [term.name for term in config.terms] == ["image-text", "audio-text"]


def test_the_shown_mistake_gives_the_shown_error(capsys: pytest.CaptureFixture[str]) -> None:
    command, answer = re.findall(r"    \$ (tercet .*)\n    (tercet: .*)\n", RECIPES)[0]
    assert main(shlex.split(command)[1:]) == 2
    assert capsys.readouterr().err == f"{answer}\n"


def test_the_shown_training_commands_are_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos.yaml").write_text("extends: image_text\ndata: photos.csv\n", encoding="utf-8")
    commands = re.findall(r"^    (?:torchrun|deepspeed|tercet) .*?\btrain (.*)$", README + TRAINING, re.MULTILINE)
    assert len(commands) == 12
    asked = [parse(["train", *shlex.split(command, comments=True)]) for command in commands]
    configs = [load_recipe(arguments.recipe, arguments.overrides) for arguments in asked]
    assert "runs/mine" in [config.out for config in configs]


def test_the_loss_in_readme_is_the_one_on_the_page_about_plugins() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")
    (loss,) = re.findall(r"```python\n(# my_loss.py.*?)```", README, re.DOTALL)
    assert loss in page


def test_the_sources_on_the_page_about_data_are_valid() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    shown = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    configs = [DataConfig.model_validate(yaml.safe_load(text)["data"]) for text in shown]
    table, shards, keywords, voices, beside = configs
    assert table.val["val"].part == (0, 0.1)
    assert keywords.train["train"].captions == {"keywords.tags": 1}
    assert voices.train["train"].sidecar == "voices.jsonl"
    assert {split.sidecar for split in (*beside.train.values(), *beside.val.values())} == {"negatives.jsonl"}
    assert list(shards.train) == ["photos", "sounds"]
    for source in (source for config in configs for source in config.train.values()):
        CaptionReader(source.captions)
        GroupReader(source.group, CaptionReader(source.captions))


def test_the_settings_on_the_page_about_data_exist() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`data\.(\w+)", page))
    assert named
    assert named <= {*DataConfig.model_fields, *DataConfig.short}


def test_the_settings_on_the_page_about_data_are_valid_yaml() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    shown = [yaml.safe_load(text) for text in re.findall(r"`(\w+: [^`]+)`", page)]
    assert {"text": "label"} in shown
    assert {"templates": "a photo of a {}."} in shown


def test_every_link_has_a_target() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        words = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", words):
            assert "://" in target or (page.parent / target).exists(), f"{page.name} links to {target}"
