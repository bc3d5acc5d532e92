"""Results as people read them: one table per task, a row per subject, a column per metric.

The terminal and the HTML report show the same tables.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from io import StringIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from tercet.eval.result import Result


@dataclass(frozen=True)
class ResultTable:
    """One task on one data set."""

    title: str
    dataset: str
    results: tuple[Result, ...]

    @property
    def subjects(self) -> list[str]:
        return list(dict.fromkeys(result.subject for result in self.results))

    @property
    def metrics(self) -> list[str]:
        return list(dict.fromkeys(result.metric for result in self.results))

    @property
    def cheats(self) -> list[str]:
        """The cheats that stand beside the first metric."""
        return list(dict.fromkeys(name for result in self.results for name in result.cheats))

    @property
    def note(self) -> str:
        """What all of its numbers have in common: the candidates or the classes among which was chosen."""
        known = {key: value for key, value in self.results[0].metadata.items() if key in ("candidates", "classes")}
        shared = all(result.metadata.items() >= known.items() for result in self.results)
        return ", ".join(f"{value} {key}" for key, value in known.items()) if shared else ""

    @property
    def chance(self) -> dict[str, float] | None:
        """What guessing scores by metric, where it is the same for all subjects."""
        known = {result.metric: result.chance for result in self.results}
        return known if all(known[result.metric] == result.chance for result in self.results) else None

    def of(self, subject: str) -> dict[str, Result]:
        return {result.metric: result for result in self.results if result.subject == subject}


def tabulate(results: Iterable[Result]) -> list[ResultTable]:
    """Results by task and data set, in the order in which they came."""
    found: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        found.setdefault((result.task, result.title, result.dataset), []).append(result)
    return [ResultTable(title, dataset, tuple(rows)) for (_, title, dataset), rows in found.items()]


def shown(value: float, metric: str) -> str:
    """Shares in per cent, ranks as they are."""
    return f"{value:.4g}" if metric.endswith("rank") else f"{100 * value:.1f}"


def interval(result: Result) -> str:
    return f"{shown(result.low, result.metric)}–{shown(result.high, result.metric)}"


def table_text(results: Iterable[Result], width: int = 110) -> str:
    """The tables as plain text, for logs."""
    page = StringIO()
    Console(file=page, width=width).print(render(results))
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines())


def render(results: Iterable[Result]) -> Group:
    """The tables for a rich console."""
    return Group(*(_draw(table) for table in tabulate(results)))


def _draw(table: ResultTable) -> Table:
    title = " · ".join(part for part in (table.title, table.dataset, table.note) if part)
    drawn = Table(title=Text(title, style="bold"), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    drawn.add_column("", no_wrap=True)
    for heading in _headings(table):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for subject in table.subjects:
        drawn.add_row(*_cells(table, subject))
        if table.chance is None:
            drawn.add_row(*_chances(table, subject), style="dim")
    if table.chance is not None:
        drawn.add_row(*_chances(table, table.subjects[0]), style="dim")
    return drawn


def _headings(table: ResultTable) -> list[str]:
    first, *others = (metric if metric.endswith("rank") else f"{metric} %" for metric in table.metrics)
    return [first, "95 %", *(name.replace(" ", "\n") for name in table.cheats), *others, "n"]


def _cells(table: ResultTable, subject: str) -> list[Text]:
    """The subject's row: the first metric with its interval and the cheats, then the others."""
    row = table.of(subject)
    first, *others = (row[metric] for metric in table.metrics)
    cheats = [shown(first.cheats[name], first.metric) if name in first.cheats else "–" for name in table.cheats]
    return [
        Text(subject),
        Text(shown(first.value, first.metric), style="bold"),
        *(Text(text, style="dim") for text in (interval(first), *cheats)),
        *(Text(shown(result.value, result.metric)) for result in others),
        Text(str(first.n), style="dim"),
    ]


def _chances(table: ResultTable, subject: str) -> list[str]:
    """What guessing scores in each column."""
    row = table.of(subject)
    first, *others = (shown(row[metric].chance, metric) for metric in table.metrics)
    return ["chance", first, "", *("" for _ in table.cheats), *others, ""]
