"""The few pieces of Markdown that a card is made of."""

from collections.abc import Iterable, Sequence

import yaml

from tercet.eval.tables.formats import markdown_text

UNKNOWN = "not known"


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a table, and an empty one."""
    return [*markdown_text(headings, rows, left=len(headings)).splitlines(), ""]


def code(language: str, text: str) -> list[str]:
    return [f"```{language}", *text.strip("\n").splitlines(), "```", ""]


def front_matter(values: dict[str, object]) -> list[str]:
    """The block of YAML that a hub reads."""
    written = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    return ["---", *written.strip("\n").splitlines(), "---", ""]
