"""The results of `tercet bench scaling`, as rows of a benchmark and as a page of plots."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from tercet.benchmarks.scaling.arms import R1, SAMPLES, STEPS, Cell
from tercet.benchmarks.table import BenchRow
from tercet.eval.report.curves import Chart, chart
from tercet.eval.report.plots import write_plots
from tercet.plural import number_of

COLUMNS = ("tower", "share of the data", "method", "R@1, %", "steps", "samples seen")


@dataclass(frozen=True)
class Measured:
    """A cell, and the numbers of its runs, one for each seed."""

    cell: Cell
    runs: tuple[Mapping[str, float], ...]

    def mean(self, name: str) -> float:
        return fmean(run[name] for run in self.runs)


def rows_of(measured: Sequence[Measured]) -> list[BenchRow]:
    return [
        BenchRow(
            f"R@1 of {one.cell.name}",
            round(one.mean(R1), 2),
            unit="%",
            sizes={"flops": one.cell.flops, "batch": one.cell.batch_size, "seeds": len(one.runs)},
            beyond={"values": [run[R1] for run in one.runs], STEPS: one.mean(STEPS), SAMPLES: one.mean(SAMPLES)},
        )
        for one in measured
    ]


def draw(path: Path, measured: Sequence[Measured]) -> Path:
    """Writes the page."""
    first = measured[0].cell
    about = [
        f"Every run spends {first.flops:.3g} floating-point operations on training, in batches of {first.batch_size}. "
        f"{number_of(len(measured[0].runs), 'seed')} a point; R@1 is the mean of both directions.",
        f"Data: {first.data or 'the built-in world'}.",
    ]
    rows = [
        (
            one.cell.tower, f"{one.cell.share:g}", one.cell.method, f"{one.mean(R1):.1f}", f"{one.mean(STEPS):,.0f}",
            f"{one.mean(SAMPLES):,.0f}",
        )
        for one in measured
    ]  # fmt: skip
    return write_plots(path, "Data, towers and methods at equal compute", about, charts_of(measured), COLUMNS, rows)


def charts_of(measured: Sequence[Measured]) -> list[Chart]:
    """R@1 over the share of the data: a plot for each tower, with a line for each method; then a plot for each method,
    with a line for each tower."""
    by_tower = _grouped(measured, lambda cell: (cell.tower, cell.method))
    by_method = _grouped(measured, lambda cell: (cell.method, cell.tower))
    plots = [(f"Tower: {name}", lines) for name, lines in by_tower.items()]
    if len(by_tower) > 1:
        plots += [(name, lines) for name, lines in by_method.items()]
    return [chart(f"{title}: R@1, % over the share of the data", lines, along="share") for title, lines in plots]


def _grouped(
    measured: Sequence[Measured], names: Callable[[Cell], tuple[str, str]]
) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """The points by the names of a plot and of a line in it."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for one in sorted(measured, key=lambda one: one.cell.share):
        plot, line = names(one.cell)
        found.setdefault(plot, {}).setdefault(line, []).append((one.cell.share, one.mean(R1)))
    return found
