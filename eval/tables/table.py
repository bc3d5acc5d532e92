"""Tables of results: one per task, with a row per subject and a column per metric.

The terminal and the HTML report show the same tables.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from io import StringIO
from textwrap import wrap

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from tercet.eval.result import Result
from tercet.eval.tables.formatting import heading, interval, shown
from tercet.eval.tables.verdict import Verdict, verdicts

NARROW = 9  # letters in a line of a shortcut's heading
NOTED = (
    "candidates",
    "classes",
    "groups",
    "episodes",
    "items without a class",
    "dimensions",
    "truncated captions",
    "kinds",
)
SINGULAR = {"candidates": "candidate", "groups": "group", "items without a class": "item without a class"}


@dataclass(frozen=True)
class ResultTable:
    """The results of one task on one dataset."""

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
    def shortcuts(self) -> list[str]:
        """The names of the shortcut baselines of the first metric."""
        return list(dict.fromkeys(name for result in self.results for name in result.shortcuts))

    @property
    def has_before(self) -> bool:
        """Whether there are results from before training."""
        return any(result.before is not None for result in self.results)

    @property
    def note(self) -> str:
        """What all rows have in common: the number of candidates, of classes or of groups."""
        known = [(key, value) for key, value in self.results[0].metadata.items() if key in NOTED]
        shared = [one for one in known if all(one in result.metadata.items() for result in self.results)]
        return ", ".join(f"{value} {SINGULAR.get(key, key) if value == 1 else key}" for key, value in shared)

    def shared_chance(self, metric: str) -> float | None:
        """The score of chance in this metric, if it is the same for all subjects."""
        known = {result.chance for result in self.results if result.metric == metric}
        return known.pop() if len(known) == 1 else None

    @property
    def first(self) -> list[Result]:
        """The first metric of each subject."""
        return [next(iter(self.of(subject).values())) for subject in self.subjects]

    @property
    def verdicts(self) -> list[Verdict]:
        """Which rows are above chance, as sentences."""
        return verdicts(self.first)

    def of(self, subject: str) -> dict[str, Result]:
        return {result.metric: result for result in self.results if result.subject == subject}


def tabulate(results: Iterable[Result]) -> list[ResultTable]:
    """Results by title, dataset and the first metric of their subject, in their order."""
    first: dict[tuple[str, str, str], str] = {}
    found: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        metric = first.setdefault((result.title, result.dataset, result.subject), result.metric)
        found.setdefault((result.title, result.dataset, metric), []).append(result)
    return [ResultTable(title, dataset, tuple(rows)) for (title, dataset, _), rows in found.items()]


def table_text(results: Iterable[Result], width: int = 110) -> str:
    """The tables as plain text, for logs."""
    return plain_text(render(results), width)


def plain_text(drawn: RenderableType, width: int = 110) -> str:
    """What a console shows, without colours, also in a notebook."""
    page = StringIO()
    Console(file=page, width=width, force_terminal=False, force_jupyter=False).print(drawn)
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines())


def render(results: Iterable[Result]) -> "Drawing":
    """The tables for a rich console."""
    return Drawing(tabulate(results))


@dataclass(frozen=True)
class Drawing:
    """Tables on a terminal. A table that is too wide leaves out its last metrics, and names them."""

    tables: list[ResultTable]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for table in self.tables:
            metrics = table.metrics
            drawn = _draw(table, metrics)
            hidden: list[str] = []
            while len(metrics) > 1 and _width(drawn, console, options) > options.max_width:
                hidden.insert(0, heading(metrics.pop()))
                drawn = _draw(table, metrics)
            yield drawn
            if hidden:
                yield Text(f"not shown, for lack of width: {', '.join(hidden)}", style="dim")
            for verdict in table.verdicts:
                yield Text(verdict.words, style="" if verdict.above_chance else "bold red")
            yield Text()


def _width(drawn: Table, console: Console, options: ConsoleOptions) -> int:
    return Measurement.get(console, options.update(max_width=1000), drawn).maximum


def _draw(table: ResultTable, metrics: list[str]) -> Table:
    title = " · ".join(part for part in (table.title, table.dataset, table.note) if part)
    drawn = Table(title=Text(title, style="bold"), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    drawn.add_column("", no_wrap=True)
    for words in _headings(table, metrics):
        drawn.add_column(words, justify="right", vertical="bottom", no_wrap=True)
    for subject in table.subjects:
        drawn.add_row(*_cells(table, subject, metrics))
    if any(table.shared_chance(metric) is not None for metric in metrics[1:]):
        drawn.caption, drawn.caption_justify = Text("in brackets: chance", style="dim"), "left"
    return drawn


def _headings(table: ResultTable, metrics: list[str]) -> list[Text]:
    first, *others = metrics
    shortcuts = [Text("\n".join(wrap(name, NARROW)), justify="right") for name in table.shortcuts]
    return [
        *([Text("before")] if table.has_before else []),
        Text(heading(first)),
        Text("95 %"),
        Text("chance"),
        *shortcuts,
        *(_headed(table, name) for name in others),
        Text("n"),
    ]


def _headed(table: ResultTable, metric: str) -> Text:
    """The metric, with the score of chance below if that is the same in every row."""
    chance = table.shared_chance(metric)
    beneath = "" if chance is None else f"\n({shown(chance, metric)})"
    return Text.assemble(heading(metric).replace(" rank", "\nrank"), (beneath, "dim"), justify="right")


def _cells(table: ResultTable, subject: str, metrics: list[str]) -> list[Text]:
    """A row: the first metric with its interval and baselines, then the other metrics."""
    row = table.of(subject)
    first = row[metrics[0]]
    before = "–" if first.before is None else shown(first.before, first.metric)
    beside = [interval(first), shown(first.chance, first.metric)]
    beside += [
        shown(first.shortcuts[name], first.metric) if name in first.shortcuts else "–" for name in table.shortcuts
    ]
    return [
        Text(subject),
        *([Text(before)] if table.has_before else []),
        Text(shown(first.value, first.metric), style="bold"),
        *(Text(words, style="dim") for words in beside),
        *(_with_chance(table, row.get(metric)) for metric in metrics[1:]),
        Text("–" if first.n is None else str(first.n), style="dim"),
    ]


def _with_chance(table: ResultTable, result: Result | None) -> Text:
    """The value, with the score of chance behind it if rows differ in that."""
    if result is None:
        return Text("–", style="dim")
    shared = table.shared_chance(result.metric) is not None
    behind = "" if shared or result.chance is None else f" ({shown(result.chance, result.metric)})"
    return Text.assemble(shown(result.value, result.metric), (behind, "dim"))
