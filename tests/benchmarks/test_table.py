"""Benchmarks are judged by targets.yaml, and print one shape."""

import json

import pytest

from tercet.benchmarks import table
from tercet.benchmarks.progress import announced
from tercet.benchmarks.table import BenchRow, bench_names, judge, print_outcome
from tercet.command import main

TARGETS = """
loss:
  memory: {of: ratio, limit: 0.2, target: less memory}
  "tercet *": {of: ours, limit: 1e-5, target: exact}
loader:
  speed: {of: ratio, at_least: 2, target: twice as fast}
"""
FIELDS = {"name", "ours", "peer", "peer_name", "ratio", "limit", "unit", "target", "holds", "sizes"}


@pytest.fixture(autouse=True)
def _targets(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "read_yaml", lambda text, where, read=table.read_yaml: read(TARGETS, where))


def verdicts(*rows: BenchRow) -> dict[str, bool | None]:
    return {row.name: row.holds for row in judge("loss", rows).rows}


def test_rows_are_held_against_their_targets() -> None:
    faults = {"tercet a": 1e-6, "tercet b": 2e-5, "tercet c": float("nan"), "peer": 9.0}
    rows = [BenchRow("memory", ratio=0.19), *(BenchRow(name, ours=fault) for name, fault in faults.items())]
    expected = {"memory": True, "tercet a": True, "tercet b": False, "tercet c": False, "peer": None}
    assert verdicts(*rows) == expected
    assert not judge("loss", [BenchRow("memory", ratio=0.21), BenchRow("tercet a", ours=0.0)]).holds
    assert judge("loss", [BenchRow("memory", ratio=0.2), BenchRow("tercet a", ours=0.0)]).holds


@pytest.mark.parametrize(
    ("ratio", "holds"), [(2.5, True), (2.0, True), (1.99, False), (float("nan"), False), (None, False)]
)
def test_some_targets_are_to_be_reached(ratio: float | None, holds: bool) -> None:
    (row,) = judge("loader", [BenchRow("speed", ratio=ratio)]).rows
    assert (row.holds, row.limit, row.target) == (holds, 2, "twice as fast")


def test_a_required_row_that_was_not_measured_is_a_miss() -> None:
    assert verdicts(BenchRow("memory", ratio=0.1)) == {"memory": True, "tercet *": False}
    assert verdicts(BenchRow("memory"), BenchRow("tercet a", ours=0.0))["memory"] is False


def test_json_has_one_shape_and_what_is_beyond_goes_into_its_row() -> None:
    outcome = judge("loss", [BenchRow("memory", ratio=0.1, beyond={"worst": "w"}), BenchRow("tercet a", ours=0.0)])
    answer = json.loads(json.dumps(outcome.to_json()))
    assert set(answer) == {"bench", "commit", "machine", "versions", "rows", "holds"}
    assert [set(row) for row in answer["rows"]] == [FIELDS | {"worst"}, FIELDS]
    assert answer["holds"] is True


def test_people_see_a_miss(capsys: pytest.CaptureFixture[str]) -> None:
    print_outcome(judge("loss", [BenchRow("memory", ratio=0.1)]))
    shown = capsys.readouterr().out
    assert "✗" in shown
    assert "a target is missed" in shown


def test_every_benchmark_has_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    targets = table.read_yaml((table.FOLDER / "targets.yaml").read_text(), "targets.yaml")
    assert set(bench_names()) <= set(targets)
    for target in (target for rows in targets.values() for target in rows.values()):
        assert set(target) in ({"of", "limit", "target"}, {"of", "at_least", "target"})


def test_what_is_measured_is_announced_beside_the_results(capsys: pytest.CaptureFixture[str]) -> None:
    for part in announced(["memory", "time"], str.upper):
        print(part)
    out, err = capsys.readouterr()
    assert out == "memory\ntime\n"
    assert err == "tercet: measuring MEMORY (1 more after it)\ntercet: measuring TIME (0 more after it)\n"


@pytest.mark.parametrize("name", bench_names())
def test_every_benchmark_has_its_own_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["bench", name, "--help"])
    shown = capsys.readouterr().out
    assert end.value.code == 0
    assert shown.startswith(f"usage: tercet bench {name} ")
    assert "Options:" not in shown  # listed below, with their defaults
    assert main(["bench", "--json", name, "--ronuds", "1"]) == 2
    assert capsys.readouterr().err.endswith(f"see `tercet bench {name} --help`\n")


def test_the_help_names_every_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    shown = capsys.readouterr().out
    assert [name for name in bench_names() if name not in shown] == []
