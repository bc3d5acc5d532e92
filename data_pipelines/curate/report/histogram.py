"""Histograms of a column before and after a selection, as coordinates that the template draws as inline SVG.

Shape letters: B bars.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tercet.data_pipelines.curate.entering import Entering
from tercet.data_pipelines.survey.plots import BARS, LINEAR, LOGARITHMIC, TAIL, WIDE, Axis
from tercet.page.axis import Area, ticks, words

AREA = Area(640, 220, left=48, right=12, top=12, bottom=28)


@dataclass(frozen=True)
class BeforeAfter:
    """A bar: its place, the heights of both counts, and what the pointer shows."""

    x: float
    width: float
    before: float
    after: float
    label: str


@dataclass(frozen=True)
class ColumnPlot:
    title: str
    note: str
    bars: tuple[BeforeAfter, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    area: Area = AREA


@dataclass(frozen=True)
class Binning:
    """Bars of equal width on an axis from `low` to `high`, which may be logarithmic."""

    low: float
    high: float
    axis: Axis
    bars: int = BARS

    @property
    def of_value(self) -> str:
        """The number of a value's bar, as SQL."""
        value = "log10(value)" if self.axis is LOGARITHMIC else "value"
        place = f"floor(({value} - {self.low!r}) / {(self.high - self.low)!r} * {self.bars})"
        return f"CAST(greatest(0, least({self.bars - 1}, {place})) AS INTEGER)"

    def edge(self, bar: int) -> float:
        return self.low + (self.high - self.low) * bar / self.bars

    def marks(self) -> list[tuple[float, str]]:
        return [(x, text) for x, text in self.axis.marks(self.low, self.high) if self.low <= x <= self.high]


def column_plot(entering: Entering, column: str, decision: str, whole: bool) -> ColumnPlot | None:
    """`whole`: nothing lies between two whole numbers. None for a column without different values."""
    values = entering.select({"value": f"CAST({column} AS DOUBLE)", "keep": f"{decision}.keep"})
    finite = f"SELECT * FROM ({values}) WHERE isfinite(value)"
    (facts,) = entering.query(
        "SELECT count(*) AS before, count(*) FILTER (keep) AS after, min(value) AS least, max(value) AS most, "
        f"approx_quantile(value, {TAIL}) AS low, approx_quantile(value, {1 - TAIL}) AS high, "
        f"avg(value) AS mean_before, avg(value) FILTER (keep) AS mean_after FROM ({finite})"
    ).to_pylist()
    if not facts["before"] or facts["least"] == facts["most"]:
        return None
    binning = _binning(facts, whole)
    counted = f"SELECT {binning.of_value} AS bar, count(*) AS before, count(*) FILTER (keep) AS after FROM ({finite})"
    rows = entering.query(f"{counted} GROUP BY bar ORDER BY bar").to_pylist()
    means = f"mean {words(facts['mean_before'])} → {words(facts['mean_after'])}" if facts["after"] else "none is kept"
    return _drawn(column, f"{facts['before']:,} values · {means}", binning, rows)


def _binning(facts: dict[str, Any], whole: bool) -> Binning:
    low, high = facts["low"], facts["high"]
    if low >= high:
        low, high = facts["least"], facts["most"]
    if whole and high - low < BARS:
        return Binning(round(low) - 0.5, round(high) + 0.5, LINEAR, round(high) - round(low) + 1)
    if facts["least"] > 0 and high > WIDE * low:
        return Binning(math.log10(low), math.log10(high), LOGARITHMIC)
    return Binning(low, high, LINEAR)


def _drawn(title: str, note: str, binning: Binning, rows: Sequence[dict[str, Any]]) -> ColumnPlot:
    y_ticks = ticks(0, max(row["before"] for row in rows), 3)
    x_at = AREA.across(binning.low, binning.high)
    y_at = AREA.up(0, y_ticks[-1])
    bars = []
    for row in rows:
        left, right = (x_at(binning.edge(row["bar"] + side)) for side in (0, 1))
        between = " to ".join(words(binning.axis.back(binning.edge(row["bar"] + side))) for side in (0, 1))
        label = f"{between}: {row['after']:,} of {row['before']:,} kept"
        width = round(max(right - left - 1, 0.5), 1)
        bars.append(BeforeAfter(left + 0.5, width, y_at(row["before"]), y_at(row["after"]), label))
    x_ticks = tuple((x_at(x), text) for x, text in binning.marks())
    return ColumnPlot(title, note, tuple(bars), x_ticks, tuple((y_at(y), words(y)) for y in y_ticks))
