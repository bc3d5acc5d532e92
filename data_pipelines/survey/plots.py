"""Distributions as plain geometry: what the template draws as inline SVG.

Shape letters: E edges of the bars, B bars.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tercet.data_pipelines.survey.sketch import Distribution
from tercet.page.axis import Area, ticks, words

AREA = Area(640, 220, left=48, right=12, top=26, bottom=28)
BARS = 48
FEW = 13  # bars around a value that all have
WIDE = 30  # an axis is logarithmic if values differ more than so many times
TAIL = 0.001  # of the values at either end, which share the first or the last bar
SILENCE = 1e-5  # the quietest value that decibels show

Edges = NDArray[np.float64]
Marks = list[tuple[float, str]]


@dataclass(frozen=True)
class Axis:
    """How values are spread along a length."""

    to: Callable[[float], float]
    back: Callable[[float], float]
    marks: Callable[[float, float], Marks]


@dataclass(frozen=True)
class PlotSpec:
    """How to plot and name the values."""

    title: str
    unit: str = ""
    factor: float = 1  # from the values to the unit
    whole: bool = False  # nothing lies between two whole numbers
    axis: Axis | None = None  # nothing: as the values need it

    def say(self, value: float) -> str:
        return f"{words(value)} {self.unit}".strip()


@dataclass(frozen=True)
class Bar:
    x: float
    y: float
    width: float
    height: float
    label: str


@dataclass(frozen=True)
class Plot:
    """Bars on a pair of axes; `median` is its position, and its label."""

    title: str
    unit: str
    note: str
    bars: tuple[Bar, ...]
    median: tuple[float, str]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    area: Area = AREA


def plot(values: Distribution, measure: PlotSpec) -> Plot:
    axis = measure.axis or _fitting(values)
    edge_E = _edges(values, measure, axis)
    below_E = _below(values, measure, axis, edge_E)
    y_ticks = ticks(0, float(np.diff(below_E).max()), 3)
    x_at = AREA.across(edge_E[0], edge_E[-1])
    y_at = AREA.up(0, y_ticks[-1])
    marked = (values.quantile(0.5), values.least, values.most)
    middle, least, most = (axis.to(value * measure.factor) for value in marked)
    return Plot(
        measure.title,
        measure.unit,
        f"{values.count:,} · {words(axis.back(least))} to {measure.say(axis.back(most))}",
        tuple(_bars(measure, axis, edge_E, below_E, x_at, y_at)),
        (x_at(middle), f"median {measure.say(axis.back(middle))}"),
        tuple((x_at(x), text) for x, text in _marks(measure, axis, edge_E[0], edge_E[-1])),
        tuple((y_at(y), words(y)) for y in y_ticks),
    )


def _round_marks(low: float, high: float) -> Marks:
    return [(x, words(x)) for x in ticks(low, high, 6)]


def _power_marks(low: float, high: float) -> Marks:
    """1, 2 and 5 times the powers of ten; powers alone where there are many."""
    factors = (1, 2, 5) if high - low < 3 else (1,)
    powers = range(math.floor(low), math.ceil(high) + 1)
    return [(math.log10(factor * 10.0**power), words(factor * 10.0**power)) for power in powers for factor in factors]


LINEAR = Axis(float, float, _round_marks)
LOGARITHMIC = Axis(math.log10, lambda x: 10.0**x, _power_marks)
DECIBELS = Axis(lambda value: 20 * math.log10(max(value, SILENCE)), float, _round_marks)


def _fitting(values: Distribution) -> Axis:
    low, high = values.quantile(TAIL), values.quantile(1 - TAIL)
    return LOGARITHMIC if 0 < low * WIDE < high and values.least > 0 else LINEAR


def _marks(measure: PlotSpec, axis: Axis, low: float, high: float) -> Marks:
    marks = [(x, text) for x, text in axis.marks(low, high) if low <= x <= high]
    return [(x, text) for x, text in marks if x == round(x)] if measure.whole and axis is LINEAR else marks


def _one_by_one(measure: PlotSpec, axis: Axis, span: float) -> bool:
    """Whether each whole number has a bar of its own."""
    return measure.whole and axis is LINEAR and span < BARS


def _edges(values: Distribution, measure: PlotSpec, axis: Axis) -> Edges:
    low, high = (axis.to(values.quantile(share) * measure.factor) for share in (TAIL, 1 - TAIL))
    if _one_by_one(measure, axis, high - low):
        spare = max(FEW - round(high - low), 0)
        first = max(round(low) - spare // 2, min(round(low), 0))
        return np.arange(first - 0.5, max(round(high), first + FEW) + 1)
    if high - low < 1e-9:
        margin = abs(low) / 10 or 1
        return np.linspace(low - margin, low + margin, FEW + 1)
    return np.linspace(low, high, BARS + 1)


def _below(values: Distribution, measure: PlotSpec, axis: Axis, edge_E: Edges) -> Edges:
    """How many values lie below each edge, those of a bin being spread over it evenly."""
    places, sums, total = [], [], 0
    for low, high, count in values.spans():
        places += [axis.to(low * measure.factor), axis.to(high * measure.factor)]
        sums += [total, total + count]
        total += count
    below_E = np.interp(edge_E, places, sums)
    below_E[0], below_E[-1] = 0, total
    return below_E


def _bars(
    measure: PlotSpec,
    axis: Axis,
    edge_E: Edges,
    below_E: Edges,
    x_at: Callable[[float], float],
    y_at: Callable[[float], float],
) -> list[Bar]:
    bars = []
    for low, high, count in zip(edge_E[:-1], edge_E[1:], np.diff(below_E), strict=True):
        left, right, top = x_at(low), x_at(high), y_at(count)
        one_by_one = _one_by_one(measure, axis, edge_E[-1] - edge_E[0]) and high - low == 1
        where = words((low + high) / 2) if one_by_one else f"{words(axis.back(low))} to {words(axis.back(high))}"
        label = f"{where} {measure.unit}: about {round(count):,}".replace(" : ", ": ")
        bars.append(Bar(left + 0.5, top, round(max(right - left - 1, 0.5), 1), round(y_at(0) - top, 1), label))
    return bars
