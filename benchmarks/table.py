"""The common format of benchmark results, and their comparison with the targets. Imports no torch."""

import operator
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from tercet import provenance
from tercet.configs.yaml_text import read_yaml
from tercet.errors import UserError, did_you_mean

TABLE_WIDTH = 150  # if the output is not a terminal, or a narrow one
FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True)
class BenchRow:
    """One measurement of tercet and of a peer. `judge` adds the limit, the target, and whether the target holds."""

    name: str
    ours: float | None = None
    peer: float | None = None
    peer_name: str | None = None
    ratio: float | None = None
    limit: float | None = None
    unit: str | None = None
    target: str | None = None
    holds: bool | None = None
    sizes: dict[str, Any] = field(default_factory=dict)
    beyond: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        own = asdict(self)
        return {**own.pop("beyond"), **own}


Bench = Callable[[Sequence[str]], Sequence[BenchRow]]


@dataclass(frozen=True)
class BenchResult:
    """The rows of a benchmark, compared with its targets."""

    bench: str
    rows: tuple[BenchRow, ...]

    @property
    def holds(self) -> bool:
        return all(row.holds is not False for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        return {
            "bench": self.bench,
            "commit": provenance.commit(),
            "machine": provenance.machine(),
            "versions": provenance.versions(),
            "rows": [row.to_json() for row in self.rows],
            "holds": self.holds,
        }


def bench_names() -> list[str]:
    return sorted(module.name for module in iter_modules([str(FOLDER)]) if module.ispkg)


def load_bench(name: str) -> Bench:
    if name not in bench_names():
        raise UserError(f"unknown benchmark `{name}`; {did_you_mean(name, bench_names())}")
    run: Bench = import_module(f"tercet.benchmarks.{name}").run
    return run


def judge(name: str, rows: Sequence[BenchRow], arguments: Sequence[str] = ()) -> BenchResult:
    """Compares rows with targets.yaml. A target without a measured row is missed.

    A benchmark may have other targets with an option: then targets.yaml has them under its name and this option.
    """
    known = read_yaml((FOLDER / "targets.yaml").read_text(encoding="utf-8"), "targets.yaml")
    options = (f"{name} {argument.partition('=')[0]}" for argument in arguments)
    targets = known[next((option for option in options if option in known), name)]
    judged = tuple(_judge(row, targets) for row in rows)
    missing = [wanted for wanted in targets if not any(fnmatch(row.name, wanted) for row in rows)]
    return BenchResult(
        name, (*judged, *(BenchRow(wanted, target="must be measured", holds=False) for wanted in missing))
    )


def _judge(row: BenchRow, targets: dict[str, dict[str, Any]]) -> BenchRow:
    """Adds the first target that matches the row. NaN misses every target."""
    for pattern, target in targets.items():
        if fnmatch(row.name, pattern):
            bound, within = ("limit", operator.le) if "limit" in target else ("at_least", operator.ge)
            measured, limit = getattr(row, target["of"]), target[bound]
            holds = measured is not None and bool(within(measured, limit))
            return replace(row, limit=limit, target=target["target"], holds=holds)
    return row


def print_outcome(outcome: BenchResult) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(outcome.bench, no_wrap=True)
    for column in ("ours", "peer", "ratio", "limit"):
        table.add_column(column, justify="right")
    table.add_column("")
    table.add_column("target", style="dim")
    for row in outcome.rows:
        table.add_row(*_cells(row))
    console = Console()
    console.width = max(console.width, TABLE_WIDTH)
    console.print(table)
    if any(row.holds is not None for row in outcome.rows):
        console.print("[green]every target holds[/green]" if outcome.holds else "[red]a target is missed[/red]")


def _cells(row: BenchRow) -> tuple[str, ...]:
    ours, peer = _figure(row.ours, row.unit), f"{_figure(row.peer, row.unit)} {row.peer_name or ''}".strip()
    return row.name, ours, peer, _figure(row.ratio), _figure(row.limit), MARKS[row.holds], row.target or ""


MARKS = {True: "[green]✓[/green]", False: "[red]✗[/red]", None: ""}


def _figure(value: float | None, unit: str | None = None) -> str:
    return "" if value is None else f"{value:.4g}" + (f" {unit}" if unit else "")
