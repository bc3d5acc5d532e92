"""Prints the progress and the result of writing captions."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tercet.data_pipelines.rewrite.rewrite import Counts, Watch
from tercet.plural import number_of


@contextmanager
def watched(samples: int) -> Iterator[Watch]:
    """A progress bar on stderr, because stdout may be JSON."""
    console = Console(stderr=True)
    counts = TextColumn("{task.fields[bad]:,} bad", style="dim")
    columns = TextColumn("captions"), BarColumn(), MofNCompleteColumn(), counts, TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("captions", total=samples, bad=0)

        def show(counts: Counts) -> None:
            progress.update(task, completed=counts.done, bad=counts.bad + counts.failed)

        yield show


def print_counts(counts: Counts, without: int, out: Path) -> None:
    console = Console(highlight=False)
    captions = number_of(counts.cached + counts.answered, "caption")
    cached = f", {counts.cached:,} of them from the cache" if counts.cached else ""
    console.print(f"{captions}{cached} → {number_of(counts.rows, 'line')} in {out}", soft_wrap=True, markup=False)
    if without:
        console.print(f"{number_of(without, 'sample')} without captions", style="dim", markup=False)
    for reason, count in counts.reasons.most_common():
        console.print(f"{count:,} × {reason}", style="yellow", soft_wrap=True, markup=False)


def print_verdict(counts: Counts, max_bad: float) -> bool:
    """Whether few enough captions are without usable answers. The lines of the others are written in any case."""
    if counts.missing <= max_bad:
        return True
    verdict = f"{counts.bad + counts.failed:,} of {counts.done:,} captions have no usable answer, more than --max-bad"
    fix = "the same command asks for the failed ones again, and with --retry-bad for the others"
    Console(stderr=True, highlight=False).print(
        f"{verdict} {max_bad:g} allows; {fix}", style="bold red", soft_wrap=True
    )
    return False
