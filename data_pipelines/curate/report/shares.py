"""The values of a column with few of them, before and after a selection."""

from dataclasses import dataclass

from tercet.data_pipelines.curate.entering import Entering

MOST = 40  # different values, above which a column is not shown
LISTED = 10


@dataclass(frozen=True)
class ShareTable:
    """`rows`: the name of each value, and how many samples have it before and after."""

    title: str
    rows: tuple[tuple[str, int, int], ...]


def share_table(entering: Entering, column: str, decision: str) -> ShareTable | None:
    values = entering.select({"value": f"CAST({column} AS VARCHAR)", "keep": f"{decision}.keep"})
    counted = "SELECT value, count(*) AS before, count(*) FILTER (keep) AS after"
    rows = entering.query(
        f"{counted} FROM ({values}) WHERE value IS NOT NULL GROUP BY value ORDER BY before DESC, value LIMIT {MOST + 1}"
    ).to_pylist()
    if not 1 < len(rows) <= MOST:
        return None
    return ShareTable(column, tuple((row["value"], row["before"], row["after"]) for row in rows[:LISTED]))
