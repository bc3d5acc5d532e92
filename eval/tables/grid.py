"""Results of several models on several datasets as one table: a row for each metric, a column for each model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from textwrap import wrap

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from tercet.eval.result import Result
from tercet.eval.statistics.scale import scale_of
from tercet.eval.tables.formatting import heading, interval, shown

GUESSED = "°"  # marks a result that may be chance
WIDE = 20  # letters in a line of a model's name
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
        """The model with the best value; none if there is only one, or if more is neither better nor worse."""
        better = scale_of(self.metric).better
        if len(self.results) < 2 or better is None:
            return ""
        values = {model: result.value for model, result in self.results.items()}
        return (max if better == "higher" else min)(values, key=values.__getitem__)


@dataclass(frozen=True)
class Grid:
    """All rows, and the models in the order of the columns."""

    models: tuple[str, ...]
    rows: tuple[Row, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """With intervals, if that fits; without them, if not; and as several tables, if there are too many models."""
        for intervals in (True, False):
            drawn = self._drawn(self.models, intervals)
            needed = Measurement.get(console, options.update(max_width=1000), drawn).maximum
            if needed <= options.max_width or not intervals:
                break
        if needed <= options.max_width or len(self.models) == 1:
            yield drawn
            return
        half = -(-len(self.models) // 2)
        for models in (self.models[:half], self.models[half:]):
            yield Grid(models, self.rows)

    @property
    def header(self) -> list[str]:
        return ["", "metric", "chance", *short(self.models)]

    def cells(self, row: Row) -> list[str]:
        """The metric, the score of chance, and the value of each model."""
        return [heading(row.metric), shown(row.chance, row.metric), *(_cell(row, model, True) for model in self.models)]

    def _drawn(self, models: Sequence[str], intervals: bool) -> Table:
        drawn = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        for words in ("", "chance", *short(models)):
            drawn.add_column(Text("\n".join(wrap(words, WIDE))), justify="right" if words else "left", no_wrap=True)
        above = ("", "")
        for row in self.rows:
            if row.section != above[0]:
                drawn.add_section()
                drawn.add_row(Text(row.section, style="bold"))
            name = heading(row.metric)
            name = f"    {name}" if (row.section, row.subject) == above else f"  {row.subject} · {name}"
            above = (row.section, row.subject)
            values = (Text(_cell(row, model, intervals), style="bold" if model == row.best else "") for model in models)
            drawn.add_row(Text(name), Text(shown(row.chance, row.metric), style="dim"), *values)
        drawn.caption, drawn.caption_justify = Text(self.note(intervals), style="dim"), "left"
        return drawn

    def note(self, intervals: bool = True) -> str:
        """What the signs behind the values mean."""
        guessed = any(_guessed(result) for row in self.rows for result in row.results.values())
        notes = ["in brackets: 95 % intervals"] * intervals + [f"{GUESSED}: not distinguishable from chance"] * guessed
        return "; ".join(notes)


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


def _cell(row: Row, model: str, intervals: bool) -> str:
    result = row.results.get(model)
    if result is None:
        return NONE
    behind = f" ({interval(result)})" if intervals and result.low is not None else ""
    return f"{shown(result.value, row.metric)}{GUESSED if _guessed(result) else ''}{behind}"


def _guessed(result: Result) -> bool:
    return result.above_chance is False
