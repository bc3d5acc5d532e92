"""Training curves as coordinates, which the template draws as inline SVG.

A line with more points than a screen can show is averaged over equal numbers of steps.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tercet.eval.result import Result
from tercet.eval.tables.formatting import heading
from tercet.eval.tables.table import tabulate
from tercet.page.axis import Area, labels, ticks, words

AREA = Area(640, 240, left=52, right=10, top=10, bottom=24)
POINTS = 300  # of a line
COLOURS = 6
WHOLE = "all"  # the line of a metric that is not divided by term
CHANCE = "chance"  # the line of the score of chance

Record = Mapping[str, float]
Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Curve:
    """One named series: its path in the plot, its latest value, and the points that the pointer shows."""

    name: str
    colour: str  # the same in every chart: `all`, `chance`, or a number
    path: str
    last: str
    points: list[tuple[float, float, float, str]]  # x and y in the plot, step, value in words


@dataclass(frozen=True)
class Chart:
    """Lines over the steps, or over what `along` names, on common axes."""

    title: str
    lines: tuple[Curve, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    along: str = "step"
    note: str = ""
    area: Area = AREA


CHARTS = (
    ("Loss", "loss"),
    ("Inverse temperature", "scale"),
    ("Bias", "bias"),
    ("Learning rate", "lr"),
    ("Gradient norm", "grad_norm"),
    ("Samples per second", "samples_per_s"),
)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """A run's `metrics.jsonl` or `evaluations.jsonl`, if it has one, without a last line that was cut off."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n") and line.strip()]


def charts(records: Sequence[Record]) -> list[Chart]:
    """A chart for everything that the run recorded. `loss` and all of `loss/…` share one."""
    found = []
    for title, key in CHARTS:
        names = [name for name in keys(records) if name == key or name.startswith(f"{key}/")]
        lines = {_label(name): series(records, name) for name in names}
        if any(len(points) > 1 for points in lines.values()):
            found.append(chart(title, lines))
    return found


def chart(title: str, lines: Mapping[str, Points], along: str = "step") -> Chart:
    """Scales the series to common axes. The axis of the values starts at zero where that wastes little space."""
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, y in points]
    terms = [name for name in lines if name not in (WHOLE, CHANCE)]
    colours = {WHOLE: WHOLE, CHANCE: CHANCE} | {name: str(number % COLOURS) for number, name in enumerate(terms)}
    x_ticks = ticks(min(xs), max(xs), 6)
    y_ticks = ticks(0 if 0 < min(ys) < 0.4 * max(ys) else min(ys), max(ys), 4)
    x_at = AREA.across(min(xs), max(xs))
    y_at = AREA.up(min(*y_ticks, *ys), max(*y_ticks, *ys))
    return Chart(
        title,
        tuple(_line(name, colours[name], points, x_at, y_at) for name, points in lines.items() if points),
        tuple((x_at(x), words(x)) for x in x_ticks if min(xs) <= x <= max(xs)),
        tuple(zip(map(y_at, y_ticks), labels(y_ticks), strict=True)),
        along=along,
    )


def line_of_weights(curve: Mapping[float, Sequence[Result]]) -> list[Chart]:
    """The first metric of each task, in per cent, along the line from the weights before training to those after."""
    first = {table.title: table.metrics[0] for table in tabulate(next(iter(curve.values()), ()))}
    lines: dict[str, Points] = {}
    for alpha, results in sorted(curve.items()):
        for table in tabulate(results):
            values = [one.value for one in table.results if one.metric == first[table.title]]
            name = " · ".join(part for part in (table.title, table.dataset, heading(first[table.title])) if part)
            lines.setdefault(name, []).append((alpha, 100 * sum(values) / len(values)))
    title = "Between the weights before (α = 0) and after training (α = 1), on the data that choose the best α"
    return [chart(title, lines, along="α =")] if len(curve) > 1 else []


def keys(records: Iterable[Record]) -> list[str]:
    return list(dict.fromkeys(name for record in records for name in record))


def _label(name: str) -> str:
    """`loss/image-text` is the line `image-text`, and `loss` alone the line of the whole."""
    return name.partition("/")[2] or WHOLE


def series(records: Sequence[Record], name: str) -> Points:
    """The finite values over the steps, averaged if there are more than a line can show."""
    points = [(record["step"], record[name]) for record in records if isinstance(record.get(name), int | float)]
    points = [point for point in points if math.isfinite(point[1])]
    stretch = math.ceil(len(points) / POINTS) or 1
    chunks = [points[start : start + stretch] for start in range(0, len(points), stretch)]
    return [(chunk[-1][0], sum(y for _, y in chunk) / len(chunk)) for chunk in chunks]


def _line(
    name: str, colour: str, points: Points, x_at: Callable[[float], float], y_at: Callable[[float], float]
) -> Curve:
    placed = [(x_at(x), y_at(y), x, words(y)) for x, y in points]
    path = "M" + "L".join(f"{x} {y}" for x, y, _, _ in placed)
    return Curve(name, colour, path, placed[-1][3], placed)
