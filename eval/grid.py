"""Results of several models on several datasets as one table: a row for each metric, a column for each model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from tercet.eval.formatting import heading, interval, shown
from tercet.eval.result import Result

GUESSED = "°"  # marks a result that may be chance
NOTE = "95 % intervals behind the values"
NOT_ABOVE = f"{GUESSED}: not distinguishable from chance"
NONE = "–"


@dataclass(frozen=True)
class Row:
    """One metric of one subject on one dataset, by model."""

    section: str
    subject: str
    metric: str
    results: Mapping[str, Result]

    @property
    def chance(self) -> float | None:
        return next(iter(self.results.values())).chance

    @property
    def best(self) -> str:
        """The model with the best value; none if there is only one."""
        if len(self.results) < 2:
            return ""
        values = {model: result.value for model, result in self.results.items()}
        return (min if self.metric.endswith("rank") else max)(values, key=values.__getitem__)


@dataclass(frozen=True)
class Grid:
    """All rows, and the models in the order of the columns."""

    models: tuple[str, ...]
    rows: tuple[Row, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The fullest table that fits: with all metrics and intervals, without intervals, or with the first metrics."""
        few = self.first
        for drawn in (self._drawn(self.rows, True), self._drawn(few, True), self._drawn(few, False)):
            needed = Measurement.get(console, options.update(max_width=1000), drawn).minimum
            if needed <= options.max_width:
                break
        yield drawn

    @property
    def first(self) -> tuple[Row, ...]:
        """The first metric of each subject."""
        kept: dict[tuple[str, str], Row] = {}
        for row in self.rows:
            kept.setdefault((row.section, row.subject), row)
        return tuple(kept.values())

    @property
    def header(self) -> list[str]:
        return ["", "metric", "chance", *short(self.models)]

    def cells(self, row: Row, intervals: bool = True) -> list[str]:
        """The metric, the score of chance, and the value of each model."""
        return [heading(row.metric), shown_chance(row), *(_cell(row, model, intervals) for model in self.models)]

    def _drawn(self, rows: Sequence[Row], intervals: bool) -> Table:
        drawn = Table(box=SIMPLE_HEAD, pad_edge=False)
        for place, words in enumerate(self.header):
            drawn.add_column(Text(words), justify="left" if place < 2 else "right", no_wrap=place < 3)
        above = ("", "")
        for row in rows:
            if row.section != above[0]:
                drawn.add_section()
                drawn.add_row(Text(row.section, style="bold"))
            subject = "" if (row.section, row.subject) == above else f"  {row.subject}"
            metric, chance, *values = self.cells(row, intervals)
            styled = (
                Text(value, style="bold" if model == row.best else "")
                for model, value in zip(self.models, values, strict=True)
            )
            drawn.add_row(Text(subject), Text(metric), Text(chance, style="dim"), *styled)
            above = (row.section, row.subject)
        notes = [NOTE] * intervals + [NOT_ABOVE] * any(_guessed(one) for row in rows for one in row.results.values())
        drawn.caption, drawn.caption_justify = Text("; ".join(notes), style="dim"), "left"
        return drawn


def grid(by_model: Mapping[str, Sequence[Result]]) -> Grid:
    """Rows in the order in which the models have them."""
    found: dict[tuple[str, str, str, str, str], dict[str, Result]] = {}
    for model, results in by_model.items():
        for one in results:
            key = (one.dataset, one.task, one.title, one.subject, one.metric)
            found.setdefault(key, {})[model] = one
    order = {dataset: place for place, dataset in enumerate(dict.fromkeys(key[0] for key in found))}
    rows = [
        Row(" · ".join(filter(None, (dataset, title))), subject, metric, results)
        for (dataset, _, title, subject, metric), results in sorted(found.items(), key=lambda item: order[item[0][0]])
        if metric != "mean rank"
    ]
    return Grid(tuple(by_model), tuple(rows))


def short(models: Sequence[str]) -> list[str]:
    """The last parts of their names, as many as tell them apart."""
    parts = [PurePath(name).parts for name in models]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-count:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return list(models)


def shown_chance(row: Row) -> str:
    return shown(row.chance, row.metric)


def _cell(row: Row, model: str, intervals: bool) -> str:
    result = row.results.get(model)
    if result is None:
        return NONE
    behind = f" ({interval(result)})" if intervals and result.low is not None else ""
    return f"{shown(result.value, row.metric)}{GUESSED if _guessed(result) else ''}{behind}"


def _guessed(result: Result) -> bool:
    return result.above_chance is False
