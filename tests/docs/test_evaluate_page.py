"""What docs/evaluate.md says: its commands are valid, its tasks load, and its table names every kind of task."""

import re
import shlex
from pathlib import Path

import pytest

from tercet.command.arguments import parse
from tercet.eval.load_tasks import load_tasks
from tercet.eval.task import KINDS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "evaluate.md").read_text(encoding="utf-8")


def test_the_commands_are_valid() -> None:
    commands = re.findall(r"^    tercet (.+)$", PAGE, re.MULTILINE)
    assert len(commands) >= 10
    for command in commands:
        parse(shlex.split(command, comments=True))


def test_the_tasks_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = re.findall(r"```yaml\n# (\w+\.yaml)\n(.*?)```", PAGE, re.DOTALL)
    for name, text in shown:
        Path(name).write_text(text, encoding="utf-8")
    for name, _ in shown:
        assert load_tasks([name])
    assert [task.title for task in load_tasks(["boats_by_night.yaml"])] == ["Boats and cars at night"]


def test_the_table_names_every_kind_with_its_keys() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \|$", PAGE, re.MULTILINE))
    own = [name for name in KINDS.names() if KINDS.get(name).__module__.startswith("tercet.eval.")]
    for name in own:
        assert name in rows, f"docs/evaluate.md lacks the kind of task {name}"
        assert set(re.findall(r"`(\w+)`", rows[name])) <= set(KINDS.get(name).model_fields), name
