"""Results as CSV, with one line for each number, and tables as Markdown."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO

from tercet.eval.result import Result
from tercet.eval.tables.grid import grid

Line = Mapping[str, object]


def result_lines(by_model: Mapping[str, Sequence[Result]]) -> list[Line]:
    """Every result of every model, for a CSV."""
    return [
        {
            "dataset": one.dataset, "task": one.task, "subject": one.subject, "metric": one.metric, "model": model,
            "value": one.value, "low": one.low, "high": one.high, "chance": one.chance,
            "above_chance": one.above_chance, "n": one.n,
        }
        for model, results in by_model.items()
        for one in results
    ]  # fmt: skip


def csv_text(lines: Sequence[Line]) -> str:
    """A header, and a line for each mapping. Numbers keep all of their digits; what is not known is empty."""
    page = StringIO()
    if lines:
        writer = csv.DictWriter(page, [*lines[0]], lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    return page.getvalue()


def markdown_text(header: Sequence[str], rows: Iterable[Sequence[object]], left: int) -> str:
    """A table of GitHub's Markdown. The first `left` columns are words, the others numbers.

    Names that come from data cannot break it or become HTML.
    """
    marks = ["---" if place < left else "---:" for place in range(len(header))]
    return "".join(f"| {' | '.join(map(_cell, row))} |\n" for row in (header, marks, *rows))


def grid_markdown(by_model: Mapping[str, Sequence[Result]]) -> str:
    """All metrics of all models, and a line about the signs."""
    found = grid(by_model)
    header = ["data", "subject", *found.header[1:]]
    rows = ([row.section, row.subject, *found.cells(row)] for row in found.rows)
    return f"{markdown_text(header, rows, left=3)}\n{found.note()}\n"


def _cell(value: object) -> str:
    """The text of a cell, on one line; None is a dash."""
    text = "–" if value is None else " ".join(str(value).split())
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
