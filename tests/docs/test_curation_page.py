"""What docs/curation.md says: its rules and commands are valid, its tables complete, and its shards become a run."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from tercet.command import main
from tercet.command.arguments import parse
from tercet.data_pipelines.curate.decision import COLUMNS
from tercet.data_pipelines.curate.rules.rule import rules
from tercet.data_pipelines.curate.rules.stages import FILES, stages_in, stages_of
from tercet.distributed import World
from tests.training.tiny import recipe, run

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "curation.md").read_text(encoding="utf-8")
(RULES,) = re.findall(r"```yaml\n# rules.yaml\n(.+?)```", PAGE, re.DOTALL)
COMMANDS = [shlex.split(line) for line in re.findall(r"^\$ tercet (.+)$", PAGE, re.MULTILINE)]


def test_the_commands_are_valid() -> None:
    written = re.findall(r"^(?:\$|   ) tercet (.+)$", PAGE, re.MULTILINE)
    assert len(written) == 10
    for command in written:
        asked = parse(shlex.split(command))
        if command.startswith("curate select") and asked.rules != ["rules.yaml"]:
            assert [len(stage.rules) for stage in stages_of(asked.rules)] == [2, 1]


def test_the_printed_rules_are_those_of_the_file() -> None:
    stages = stages_in(yaml.safe_load(RULES), "page")
    printed = re.findall(
        r"^(?:  (\S.*?)  +[\d,]+  +[\d,]+  +[\d,]+|(\w+): [\d,]+ samples enter.*)$", PAGE, re.MULTILINE
    )
    assert [rule or stage for rule, stage in printed] == [
        text for stage in stages for text in (stage.name, *(rule.label for rule in stage.rules))
    ]


def test_the_tables_name_every_rule_with_its_defaults_and_every_column() -> None:
    stages_in(["duplicates"], "page")  # imports all rules
    rows = dict(re.findall(r"^\| `(\w+)(?:: \w+)?` \| (.+) \|$", PAGE, re.MULTILINE))
    assert rows.keys() >= set(rules.names())
    assert rows.keys() >= COLUMNS.keys()
    assert len(FILES) == 6
    for name in rules.names():
        fields: dict[str, Any] = rules.get(name).model_fields
        for option, default in re.findall(r"`(\w+)` \(([^)]+)\)", rows[name]):
            value = fields[option].default
            shown = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value).lower()
            assert shown.removesuffix(".0") == default, (name, option)


@pytest.mark.long
def test_shards_become_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page's commands on fewer samples, with a reference of two steps, and DuckDB's decision."""
    monkeypatch.chdir(tmp_path)
    Path("rules.yaml").write_text(RULES)
    smaller = {"train=3000": "train=240", "val=200": "val=32"}
    few = [
        "steps=2",
        "batch_size=16",
        "eval.tasks=[retrieval]",
        "eval.candidates=16",
        "eval.shortcuts=16",
    ]
    printed = []
    for command in COMMANDS:
        words = [smaller.get(word, word) for word in command]
        if words[:2] == ["curate", "score"] and "--by" in words:
            run(World(), recipe(tmp_path / "noisy", tmp_path / "runs" / "reference", steps=2))
        if words[0] == "train":
            words += few
        assert main(words) == 0, words
        printed.append(capsys.readouterr().out)
    assert re.search(r"scores/clean: keeps \d+ of 240 samples", "".join(printed))
    decision = duckdb.sql("SELECT count(*) FILTER (keep) FROM 'scores/clean/data/*.parquet'").fetchall()[0][0]
    (plan,) = Path("runs/demo/plans").glob("*.json")
    assert json.loads(plan.read_text())["shares"][0]["samples"] == decision
    (python,) = re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL)
    exec(python.replace("> 0.5", "> -1"), {})  # the cosines of an untrained model
    assert main(["data", "stats", "noisy/train", "--list", "keep.parquet", "--workers", "1"]) == 0
    assert "list keep.parquet" in capsys.readouterr().out
