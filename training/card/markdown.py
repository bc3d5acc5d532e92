"""The few pieces of Markdown that a card is made of. Names that come from data cannot break a table or become HTML."""

from collections.abc import Iterable, Sequence

import yaml

UNKNOWN = "not known"


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a table, and an empty one."""
    lines = ["| " + " | ".join(map(cell, headings)) + " |", "|" + "---|" * len(headings)]
    return [*lines, *("| " + " | ".join(map(cell, row)) + " |" for row in rows), ""]


def cell(value: object) -> str:
    """The text of a cell, on one line; None is a dash."""
    text = "–" if value is None else " ".join(str(value).split())
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def code(language: str, text: str) -> list[str]:
    return [f"```{language}", *text.strip("\n").splitlines(), "```", ""]


def front_matter(values: dict[str, object]) -> list[str]:
    """The block of YAML that a hub reads."""
    written = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    return ["---", *written.strip("\n").splitlines(), "---", ""]
