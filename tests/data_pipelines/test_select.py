"""Stages of rules, what they count, several sources and groups, and decisions that are refused or continued."""

import json
import os
import shutil
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow.parquet as pq
import pytest

from tercet.command import main
from tercet.data_pipelines.curate.decision import Decision
from tercet.data_pipelines.curate.score_table import ScoreTable
from tercet.data_pipelines.curate.selected import Selected
from tercet.data_pipelines.plans.sample_list import read_list
from tercet.errors import UserError
from tests.data_pipelines.memory import Captions
from tests.data_pipelines.scored import chosen, decision, kept, scored

DICE = np.random.default_rng(0)
GOOD, BEST = DICE.random(200) < 0.6, DICE.normal(size=200)
STAGES = {
    "clean": [{"where": "g.good"}, {"where": "id % 3 > 0"}],
    "best": [{"top": {"by": "g.best", "fraction": 0.25}}],
}


@pytest.fixture
def table(tmp_path: Path) -> ScoreTable:
    return scored(tmp_path / "scores", {"g": {"good": GOOD.tolist(), "best": BEST.tolist()}})


def test_a_stage_looks_at_what_the_stage_before_keeps(table: ScoreTable) -> None:
    clean = [id for id in range(200) if GOOD[id] and id % 3]
    best = sorted(sorted(clean, key=lambda id: -BEST[id])[: round(len(clean) / 4)])
    assert kept(table, STAGES) == best
    found = decision(table)
    reasons = {"clean: where: g.good", "clean: where: id % 3 > 0", "best: top: g.best, 25 %", None}
    assert set(found["why"]) == reasons
    assert [why for id, why in enumerate(found["why"]) if not GOOD[id]] == ["clean: where: g.good"] * sum(~GOOD)
    assert [bool(why) for why in found["why"]] == [not keep for keep in found["keep"]]
    assert found["count"] == found["probability"] == [int(keep) for keep in found["keep"]]


def test_each_rule_is_counted_alone_and_together(table: ScoreTable) -> None:
    clean, best = chosen(table, STAGES).stages
    bad, third = ~GOOD, np.arange(200) % 3 == 0
    first, second = clean.rules
    assert (first.alone, first.only, first.first) == (bad.sum(), (bad & ~third).sum(), bad.sum())
    assert (second.alone, second.only, second.first) == (third.sum(), (third & ~bad).sum(), (third & ~bad).sum())
    assert (clean.entered, clean.kept) == (200, (~bad & ~third).sum())
    assert (best.entered, best.kept + best.rules[0].alone) == (clean.kept, clean.kept)


def test_sources_and_groups_are_joined(tmp_path: Path) -> None:
    """The best over both sources; one group has a source and some samples only."""
    folder = tmp_path / "scores"
    scored(folder, {"g": {"best": [0.1, 0.9, 0.5]}}, "one")
    table = scored(folder, {"g": {"best": [0.8, 0.2]}, "flags": {"id": [1], "bad": [True]}}, "two")
    assert chosen(table, [{"top": {"by": "g.best", "count": 3}}]).kept == 3
    assert [decision(table, source=name)["keep"] for name in ("one", "two")] == [[False, True, True], [True, False]]
    chosen(table, [{"where": "flags.bad is null"}], "flagged")
    assert [decision(table, "flagged", name)["keep"] for name in ("one", "two")] == [[True] * 3, [True, False]]


def test_a_decision_is_a_list_and_a_group(table: ScoreTable) -> None:
    chosen(table, STAGES)
    source = Captions("data", [200])
    listed = read_list(str(table.folder / "chosen"), source)
    assert listed.times_N.tolist() == decision(table)["count"]
    assert kept(table, [{"where": "chosen.keep"}], "again") == np.flatnonzero(listed.times_N).tolist()


def test_the_result_depends_neither_on_threads_nor_on_memory(table: ScoreTable) -> None:
    rules = [
        {"sample": {"by": "g.best", "fraction": 0.5}},
        {"alip": {"raw": "g.best", "written": "g.best", "captions": "g.best"}},
    ]
    one, two = chosen(table, rules, "one"), chosen(table, rules, "two", memory="200MB", workers=2)
    assert (one.kept, one.stages) == (two.kept, two.stages)
    assert decision(table, "one") == decision(table, "two")


def test_a_killed_selection_continues_with_the_rules_that_are_missing(
    table: ScoreTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = chosen(table, STAGES, "whole")
    write = Decision.write

    def killed(self: Decision, stages: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Decision, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        chosen(table, STAGES, "killed")
    verdicts = sorted((table.folder / ".killed").glob("*/*/verdict.parquet"))
    times = [path.stat().st_mtime_ns for path in verdicts]
    assert [path.parent.name for path in verdicts] == ["1-where", "2-where", "1-top"]

    def written(self: Decision, stages: object) -> None:
        assert [path.stat().st_mtime_ns for path in verdicts] == times
        write(self, stages)  # type: ignore[arg-type]

    monkeypatch.setattr(Decision, "write", written)
    assert chosen(table, STAGES, "killed").stages == expected.stages
    assert decision(table, "killed") == decision(table, "whole")
    assert not (table.folder / ".killed").exists()


def test_a_killed_selection_leaves_nothing_to_other_rules(table: ScoreTable) -> None:
    """The decision's folder is removed, as the error says, and its name gets another fraction."""
    killed = patch.object(Decision, "write", side_effect=KeyboardInterrupt)
    with killed, pytest.raises(KeyboardInterrupt):
        chosen(table, [{"top": {"by": "g.best", "fraction": 0.5}}])
    rules = [{"top": {"by": "g.best", "fraction": 0.25}}]
    with pytest.raises(UserError, match="or remove the folder"):
        chosen(table, rules)
    shutil.rmtree(table.folder / "chosen")
    assert chosen(table, rules).kept == 50


def test_a_complete_decision_is_read_and_other_rules_or_scores_are_refused(table: ScoreTable) -> None:
    first = chosen(table, STAGES)
    assert chosen(table, STAGES) == first == Selected.read(table.folder / "chosen")
    with pytest.raises(UserError, match=r"holds other values .rules, group g changed.; choose another name"):
        chosen(table, ["duplicates"])
    path = table.folder / "g" / "data" / "rows.parquet"
    os.utime(path, ns=(0, 0))
    with pytest.raises(UserError, match=r"holds other values .group g changed."):
        chosen(table, STAGES)


def test_the_command_prints_what_each_rule_drops(table: ScoreTable, capsys: pytest.CaptureFixture[str]) -> None:
    rules = ["where=g.good", "where=id % 3 > 0", "then", "top={by: g.best, fraction: 0.25}"]
    assert main(["curate", "select", str(table.folder), "--out", "clean", "--workers", "1", *rules]) == 0
    shown = capsys.readouterr().out.splitlines()
    count = sum(decision(table, "clean")["keep"])
    assert shown[0] == f"{table.folder}/clean: keeps {count} of 200 samples ({100 * count / 200:.3g} %)"
    assert [line.split() for line in shown[3:5]] == [
        ["rule", "drops", "alone", "only", "it", "in", "turn"],
        ["where:", "g.good", str(sum(~GOOD)), str(sum(~GOOD & (np.arange(200) % 3 > 0))), str(sum(~GOOD))],
    ]
    assert main(["curate", "select", str(table.folder), "--out", "clean", "--json", *rules]) == 0
    assert json.loads(capsys.readouterr().out)["kept"] == count
    manifest = json.loads((table.folder / "clean" / "manifest.json").read_text())
    assert set(manifest["columns"]) == {"keep", "count", "probability", "why"}
    assert pq.read_schema(table.folder / "clean" / "data" / "000000000000.parquet").names[:2] == ["id", "key"]


def test_brackets_of_an_expression_are_printed(table: ScoreTable, capsys: pytest.CaptureFixture[str]) -> None:
    rule = "where=list_contains([4, 5], id) or " + " or ".join(f"id = {id}" for id in range(40))
    assert main(["curate", "select", str(table.folder), "--out", "listed", "--workers", "1", rule]) == 0
    assert f"  {rule.replace('=', ': ', 1)}  " in capsys.readouterr().out
    assert sum(decision(table, "listed")["keep"]) == 40


def test_a_decision_depends_on_the_groups_that_its_rules_name_alone(table: ScoreTable) -> None:
    """The name of a stage, and a text in an expression, may be those of another group."""
    stages = {"flags": [{"where": "g.good and 'other' <> 'g'"}]}
    first = chosen(table, stages)
    scored(table.folder, {"flags": {"bad": [True]}, "other": {"bad": [True]}}, samples=200)
    assert chosen(ScoreTable(table.folder), stages) == first


def test_a_wrong_memory_is_refused(table: ScoreTable) -> None:
    with pytest.raises(UserError, match=r"memory: `much` is not a size; give one such as 4GB"):
        chosen(table, STAGES, memory="much")
