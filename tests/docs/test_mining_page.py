"""What docs/negatives.md says about mining: its commands are valid, its recipe loads, and its tables are complete."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from tercet.command import mining
from tercet.command.arguments import parse
from tercet.configs.base import build
from tercet.training.mining.config import FORMATS, MiningConfig
from tercet.training.mining.rules import RULES
from tercet.training.recipe import load_recipe

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "negatives.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("\n## Mining\n")[2].partition("\n## ")[0]


def test_the_commands_are_valid() -> None:
    commands = re.findall(r"^    (?:torchrun .*?)?(?:tercet|-m tercet) (data mine .*)$", SECTION, re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        asked = parse(shlex.split(command, comments=True))
        given = {name: value for name in mining.OPTIONS if (value := getattr(asked, name)) is not None}
        build(MiningConfig, given, lambda key: "docs")
        assert (asked.data is None) == (asked.split is not None)


def test_the_tables_name_every_rule_and_every_format() -> None:
    for name in ("range_max", *RULES):
        assert f"`--{name.replace('_', '-')} " in SECTION
    assert re.findall(r"^\| `([\w-]+)` \| `anchor`", SECTION, re.MULTILINE) == list(FORMATS)


def test_the_recipe_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```yaml\n(.+?)```", SECTION, re.DOTALL)
    Path("own.yaml").write_text(yaml.safe_dump({"extends": "image_text", **yaml.safe_load(block)}), encoding="utf-8")
    config = load_recipe("own.yaml")
    assert config.terms[0].against == {"image": ("text.negative.mined",)}
