"""Prints the progress and the result of packing."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from tercet.data_pipelines.manifests.roles import Roles
from tercet.modality import how_to_convert


class Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:,.0f} rows/s", style="dim")


def print_roles(roles: Roles) -> None:
    """Prints the guessed columns before anything begins, on stderr, because the result may be JSON."""
    if str(roles):
        Console(stderr=True, highlight=False).print(f"columns: {roles}", soft_wrap=True, markup=False)


@contextmanager
def watched(rows: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr, because stdout may be JSON."""
    console = Console(stderr=True)
    columns = TextColumn("packing"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("packing", total=rows)
        yield lambda count: progress.advance(task, count)


def print_result(result: Mapping[str, Any], out: Path) -> None:
    console = Console(highlight=False)
    shards, left_out = len(result["shards"]), result["left_out"]
    console.print(
        f"[bold]{result['samples']:,}[/bold] of {result['rows']:,} rows → {shards:,} "
        f"shard{'s' * (shards != 1)} in {out}, {decimal(result['bytes'])}",
        soft_wrap=True,
    )
    if left_out:
        console.print(_reasons(left_out))
        console.print(f"row by row: {out / 'bad_samples.jsonl'}", style="dim", soft_wrap=True, markup=False)
    if passed_over := result["plan"]["source"]["passed_over"]:
        listed = ", ".join(f"{count:,} × {kind}" for kind, count in passed_over.items())
        lines = [f"files that are not part of a sample: {listed}", *how_to_convert(passed_over)]
        console.print("\n".join(lines), style="dim", soft_wrap=True, markup=False)


def print_verdict(result: Mapping[str, Any], max_bad: float) -> bool:
    """Whether few enough rows were left out. The packed shards stay in any case."""
    left_out, rows = sum(result["left_out"].values()), int(result["rows"])
    if left_out <= max_bad * rows:
        return True
    verdict = f"left out {left_out:,} of {rows:,} rows, more than --max-bad {max_bad:g} allows"
    Console(stderr=True, highlight=False).print(f"{verdict}; the others are packed", style="bold red", soft_wrap=True)
    return False


def _reasons(left_out: Mapping[str, int]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("rows", justify="right", style="bold yellow")
    table.add_column("left out because")
    for reason, count in left_out.items():
        table.add_row(f"{count:,}", reason)
    return table
