"""The table of a self-test: a row per null model and metric."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from tercet.eval.tables.formatting import heading, shown
from tercet.eval.trust.self_test import EXACT, Check, Key


def render_checks(checks: Sequence[Check]) -> Table:
    """For a rich console. A row has the range over all subjects."""
    drawn = Table(
        title=Text("Self-test of the evaluation", style="bold"), title_justify="left", box=SIMPLE_HEAD, pad_edge=False
    )
    for words in ("model", "task", "metric"):
        drawn.add_column(words, no_wrap=True)
    for words in ("scored", "expected", "tolerance"):
        drawn.add_column(words, justify="right", no_wrap=True)
    drawn.add_column("")
    for rows in _by_metric(checks):
        failed = [check.subject for check in rows if not check.holds]
        verdict = Text(f"wrong: {', '.join(failed)}", style="red") if failed else Text("holds", style="green")
        first = rows[0]
        scored, expected = _range([row.scored for row in rows], first), _range([row.expected for row in rows], first)
        bound = "" if first.bound == "equal" else f"{first.bound} "
        drawn.add_row(
            first.model, first.task, heading(first.metric), scored, f"{bound}{expected}", _tolerance(rows), verdict
        )
    return drawn


def _by_metric(checks: Sequence[Check]) -> list[list[Check]]:
    """The checks of all subjects, by null model, task and metric."""
    found: dict[Key, list[Check]] = {}
    for check in checks:
        found.setdefault((check.model, check.task, check.metric), []).append(check)
    return list(found.values())


def _tolerance(rows: Sequence[Check]) -> str:
    most = max(row.tolerance for row in rows)
    return "exact" if most == EXACT else f"± {_range([row.tolerance for row in rows], rows[0])}"


def _range(values: Sequence[float], check: Check) -> str:
    low, high = shown(min(values), check.metric), shown(max(values), check.metric)
    return low if low == high else f"{low} to {high}" if "-" in low else f"{low}–{high}"
