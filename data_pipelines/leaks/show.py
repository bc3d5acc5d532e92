"""Prints leaks."""

from rich import box
from rich.console import Console
from rich.table import Table

from tercet.data_pipelines.leaks.eval_index import KINDS
from tercet.data_pipelines.leaks.leaks import Count


def print_count(count: Count) -> None:
    console = Console(highlight=False)
    if count.leaks:
        console.print(_table(count))
    if count.bad:
        reasons = ", ".join(f"{number:,} × {reason}" for reason, number in count.bad.most_common())
        console.print(f"not compared: {reasons}", style="yellow", markup=False)
    mark = "[green]✓[/]" if count.clean else "[red]✗[/]"
    which = "no picture and no sound" if count.clean else f"pictures or sounds of {count.leaked:,}"
    console.print(f"{mark} {which} of {count.evaluation:,} evaluation samples among {count.train:,} training samples")


def _table(count: Count) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("what leaks", no_wrap=True)
    for name in ("pairs", "evaluation samples", "of all"):
        table.add_column(name, justify="right")
    for kind in KINDS:
        if kind in count.leaks:
            samples = len(count.eval_samples[kind])
            table.add_row(kind, f"{count.leaks[kind]:,}", f"{samples:,}", f"{samples / count.evaluation:.2%}")
    return table
