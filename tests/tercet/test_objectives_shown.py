"""`tercet recipes ls --objectives` and `show --objective`, in narrow and wide terminals."""

import json
import re

import pytest

from tercet.command import main
from tercet.models.losses.about import about
from tercet.models.losses.objective import objective_names


def test_the_objectives_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "ls", "--objectives", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in listed] == objective_names()
    assert {"name": "macl", "summary": about("macl").summary, "source": "Huang et al. 2023"} in listed


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_of_objectives_fits_the_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["recipes", "ls", "--objectives"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[:-1])) <= width
    assert set(objective_names()) <= {line.split()[0] for line in lines if line.strip()}


@pytest.mark.parametrize("name", objective_names())
def test_an_objective_is_explained_within_the_width_of_the_terminal(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["recipes", "show", "--objective", name]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(lines[:2]).startswith(f"{name}: {about(name).summary}")
    shown = [found[1] for line in lines if (found := re.match(r"  (\w+): ", line))]
    assert shown == [option.name for _, group in about(name).options for option in group]
    prose = [line for line in lines if not line.startswith("    ") or re.match(r" {6}\S", line)]
    assert max(len(line) for line in prose if not re.match(r"  \w+: ", line)) <= 80


def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for words, answer in {
        ("--objective", "mcl"): "unknown objective `mcl`; did you mean `macl`?",
        ("demo", "--objective", "macl"): "argument --objective: not allowed with argument RECIPE;",
        (): "give RECIPE or --objective; see `tercet recipes show --help`",
    }.items():
        assert main(["recipes", "show", *words]) == 2
        assert capsys.readouterr().err.startswith(f"tercet: {answer}")
