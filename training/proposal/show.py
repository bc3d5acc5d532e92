"""Prints a proposal on a terminal, in about a dozen lines."""

from collections.abc import Iterator
from pathlib import Path
from shlex import quote

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tercet.training.proposal.pace import duration
from tercet.training.proposal.propose import Proposal
from tercet.training.proposal.write import inline

NUMBERS = ("batch_size", "steps", "optimizer.lr", "schedule.warmup", "data.workers", "micro_batch")


def print_proposal(proposal: Proposal, path: Path) -> None:
    console = Console(highlight=False)
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _rows(proposal):
        table.add_row(name, value)
    console.print(table)
    console.print(f"\n{_command(len(proposal.machine.gpus))} {quote(str(path))}", style="bold cyan", markup=False)


def _command(gpus: int) -> str:
    return "tercet train" if gpus < 2 else f"torchrun --nproc-per-node {gpus} -m tercet train"


def _rows(proposal: Proposal) -> Iterator[tuple[str, str]]:
    chosen, pace = proposal.chosen, proposal.pace
    yield "data", "\n".join(str(proposal.seen).split("; "))
    yield "machine", str(proposal.machine)
    yield "way", chosen.reasons[0]
    for objection in chosen.reasons[1:]:
        yield "", objection
    if chosen.caution:
        yield "weights", chosen.caution
    yield "extends", chosen.way.recipe or "nothing: the recipe is complete"
    values = {choice.key: choice for choice in proposal.choices}
    for key in NUMBERS:
        if key in values:
            yield key, f"{inline(values[key].value)}  [dim]{escape(values[key].why)}[/dim]"
    yield "time", f"[bold]{duration(pace.total)}[/bold]  [dim]{escape(str(pace.measured))}[/dim]"
