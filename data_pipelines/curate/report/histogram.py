"""Histograms of a column before and after a selection, as coordinates that the template draws as inline SVG.

Shape letters: B bars.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tercet.data_pipelines.curate.entering import Entering
from tercet.page.axis import scale, ticks, words

WIDTH, HEIGHT = 640, 220
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 12, 28  # margins of the plot
BARS = 48
TAIL = 0.001  # of the values at either end, which share the first or the last bar
WIDE = 30  # an axis is logarithmic if values differ more than so many times


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
    width: int = WIDTH
    height: int = HEIGHT

    @property
    def frame(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom edge of the plot."""
        return LEFT, TOP, self.width - RIGHT, self.height - BOTTOM


@dataclass(frozen=True)
class Binning:
    """Bars of equal width on an axis from `low` to `high`, which may be logarithmic."""

    low: float
    high: float
    logarithmic: bool
    bars: int

    @property
    def of_value(self) -> str:
        """The number of a value's bar, as SQL."""
        value = "log10(value)" if self.logarithmic else "value"
        place = f"floor(({value} - {self.low!r}) / {(self.high - self.low)!r} * {self.bars})"
        return f"CAST(greatest(0, least({self.bars - 1}, {place})) AS INTEGER)"

    def back(self, place: float) -> float:
        return 10.0**place if self.logarithmic else place

    def edge(self, bar: int) -> float:
        return self.low + (self.high - self.low) * bar / self.bars

    def marks(self) -> list[tuple[float, str]]:
        if not self.logarithmic:
            return [(x, words(x)) for x in ticks(self.low, self.high, 6) if self.low <= x <= self.high]
        factors = (1, 2, 5) if self.high - self.low < 3 else (1,)
        powers = range(math.floor(self.low), math.ceil(self.high) + 1)
        values = [factor * 10.0**power for power in powers for factor in factors]
        return [(math.log10(x), words(x)) for x in values if self.low <= math.log10(x) <= self.high]


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
        return Binning(round(low) - 0.5, round(high) + 0.5, False, round(high) - round(low) + 1)
    if facts["least"] > 0 and high > WIDE * low:
        return Binning(math.log10(low), math.log10(high), True, BARS)
    return Binning(low, high, False, BARS)


def _drawn(title: str, note: str, binning: Binning, rows: Sequence[dict[str, Any]]) -> ColumnPlot:
    y_ticks = ticks(0, max(row["before"] for row in rows), 3)
    x_at = scale(binning.low, binning.high, LEFT, WIDTH - RIGHT)
    y_at = scale(0, y_ticks[-1], HEIGHT - BOTTOM, TOP)
    bars = []
    for row in rows:
        left, right = (x_at(binning.edge(row["bar"] + side)) for side in (0, 1))
        between = " to ".join(words(binning.back(binning.edge(row["bar"] + side))) for side in (0, 1))
        label = f"{between}: {row['after']:,} of {row['before']:,} kept"
        width = round(max(right - left - 1, 0.5), 1)
        bars.append(BeforeAfter(left + 0.5, width, y_at(row["before"]), y_at(row["after"]), label))
    x_ticks = tuple((x_at(x), text) for x, text in binning.marks())
    return ColumnPlot(title, note, tuple(bars), x_ticks, tuple((y_at(y), words(y)) for y in y_ticks))
