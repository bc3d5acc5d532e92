"""Finds the files of the tasks that come with tercet. Imports no torch."""

from itertools import takewhile
from pathlib import Path

FOLDER = Path(__file__).parent / "tasks"


def task_names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def summary(name: str) -> str:
    """The comment at the beginning of its file, which describes it."""
    lines = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    return " ".join(line.removeprefix("#").strip() for line in takewhile(lambda line: line.startswith("#"), lines))
