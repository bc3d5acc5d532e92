"""`tercet tasks`: every task and every kind of task is listed, explained, and printed as a file that loads."""

import json
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from tercet.command import main
from tercet.eval.about_kind import about_kind
from tercet.eval.load_tasks import load_task
from tercet.eval.task import KINDS
from tercet.eval.task_files import task_names

KNOWN = [name for name in KINDS.names() if KINDS.get(name).__module__.startswith("tercet.")]


def test_the_tasks_and_the_kinds_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "ls", "--json"]) == 0
    tasks = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in tasks] == task_names()
    assert all(len(one["summary"]) > 20 and one["summary"].endswith(".") for one in tasks)
    assert main(["tasks", "ls", "--kinds", "--json"]) == 0
    kinds = json.loads(capsys.readouterr().out)
    assert {"name": "geometry", "summary": "How the vectors lie in the space"} in kinds
    assert {one["name"] for one in kinds} >= set(KNOWN)


@pytest.mark.parametrize("words", [["ls"], ["ls", "--kinds"]])
def test_the_tables_fit_the_terminal(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    assert main(["tasks", *words]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 70


def test_a_printed_task_loads_as_the_same_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in task_names():
        assert main(["tasks", "show", name]) == 0
        file = tmp_path / f"{name}.yaml"
        file.write_text(capsys.readouterr().out)
        assert load_task(str(file)) == load_task(name)


@pytest.mark.parametrize("name", KNOWN)
def test_each_key_of_a_kind_is_explained_within_the_width_of_the_terminal(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["tasks", "show", "--kind", name]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(lines[:2]).startswith(f"{name}: {about_kind(name).summary}")
    shown = [found[1] for line in lines if (found := re.match(r"  (\w+):", line))]
    assert sorted(shown) == sorted(set(KINDS.get(name).model_fields) - {"kind", "name"})
    assert all(option.meaning and option.allowed for _, group in about_kind(name).options for option in group)
    assert max(len(line) for line in lines if not re.match(r"  \w+:", line)) <= 80


@pytest.mark.parametrize("name", KNOWN)
def test_the_keys_that_a_task_file_needs_are_shown_first(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValidationError) as refused:
        KINDS.get(name).model_validate({"kind": name, "name": name})
    needed = {str(one["loc"][0]) for one in refused.value.errors() if one["type"] == "missing"}
    assert main(["tasks", "show", "--kind", name]) == 0
    shown = capsys.readouterr().out.partition("\nRequired keys\n")[2].partition("\n\n")[0]
    assert needed == set(re.findall(r"^  (\w+):", shown, re.MULTILINE))


def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for words, answer in {
        ("retreival",): "unknown task `retreival`; did you mean `retrieval`?",
        ("--kind", "knnn"): "unknown kind of task `knnn`; did you mean `knn`?",
        ("knn", "--kind", "knn"): "argument --kind: not allowed with argument TASK;",
        (): "give TASK or --kind; see `tercet tasks show --help`",
    }.items():
        assert main(["tasks", "show", *words]) == 2
        assert capsys.readouterr().err.startswith(f"tercet: {answer}")
