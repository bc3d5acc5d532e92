"""Progress for people: a live panel on a terminal, and plain lines in a log file."""

import sys
import time
from typing import TextIO

from rich.console import Console as RichConsole
from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tercet.plural import number_of
from tercet.training.hooks.hook import RunInfo, StepRecord

REFRESHES = 4  # of the panel, per second
PAUSE = 5.0  # minimum number of seconds between two lines of a log file


class Console:
    """A live panel on a terminal. Elsewhere a line every `every` steps, but at most one in `PAUSE` seconds."""

    def __init__(self, every: int, out: TextIO | None = None) -> None:
        self.every = every
        self._console = RichConsole(file=out or sys.stdout, highlight=False)
        self._live: Live | None = None
        self._name = ""
        self._first = 1
        self._printed_at = -PAUSE

    def start(self, run: RunInfo) -> None:
        self._name, self._first = run.name, run.step + 1
        done = "all of them done" if run.step == run.steps else f"resumed after step {run.step:,}"
        resumed = f", {done}" if run.step else ""
        self._console.print(
            f"[bold]{run.name}[/bold] → {run.folder}: {number_of(run.steps, 'step')}{resumed}", soft_wrap=True
        )
        if self._console.is_terminal:
            waiting = Text("preparing the first step …", style="dim")
            self._live = Live(waiting, console=self._console, refresh_per_second=REFRESHES, transient=True)
            self._live.start()

    def step(self, record: StepRecord) -> None:
        if self._live:
            self._live.transient = False  # the last panel stays, and a run without a step leaves nothing
            self._live.update(panel(self._name, record))
        elif record.step in (1, record.steps) or (record.step % self.every == 0 and self._paused()):
            self._printed_at = time.monotonic()
            line = numbers(record) if record.step == self._first else plain(record)
            self._console.print(line, soft_wrap=True, markup=False)

    def _paused(self) -> bool:
        return time.monotonic() - self._printed_at >= PAUSE

    def stop(self) -> None:
        if self._live:
            self._live.stop()


def plain(record: StepRecord) -> str:
    """One line of a log file."""
    left = f"{clock(record.seconds_left)} left"
    return "  ".join([numbers(record), _rate(record), f"skipped {record.skipped}", left])


def numbers(record: StepRecord) -> str:
    """The line of the first step, without a speed: this step is slow, because it waits for the first samples."""
    terms = ", ".join(f"{term} {loss:.3f} {_scale(record, term)}".rstrip() for term, loss in record.losses.items())
    parts = [
        f"step {record.step:>{len(str(record.steps))}}/{record.steps}",
        f"loss {record.loss:.4f} ({terms})",
        f"lr {record.lr:.2e}",
        *([] if record.grad_norm is None else [f"grad {record.grad_norm:.2f}"]),
    ]
    return "  ".join(parts)


def panel(name: str, record: StepRecord) -> Group:
    """The progress bar, the numbers of the step, and the loss and the scale of the logits of each term."""
    return Group(_bar(name, record), _numbers(record), _terms(record))


def _bar(name: str, record: StepRecord) -> Table:
    line = Table.grid(padding=(0, 1), expand=True)
    line.add_column(no_wrap=True)
    line.add_column(ratio=1)
    line.add_column(no_wrap=True)
    where = Text.assemble((name, "bold"), f" {record.stage}" if record.stage else "")
    done = Text.assemble((f"{record.step:,}", "bold"), f"/{record.steps:,}")
    left = Text.assemble(done, ("  " + clock(record.seconds_left) + " left", "cyan"))
    bar = ProgressBar(record.steps, record.step, complete_style="cyan", finished_style="green")
    line.add_row(where, bar, left)
    return line


def _numbers(record: StepRecord) -> Text:
    shown = [("loss ", f"{record.loss:.4f}", "bold green"), ("lr ", f"{record.lr:.2e}", "")]
    if record.grad_norm is not None:
        shown.append(("grad ", f"{record.grad_norm:.2f}", ""))
    shown.append(("", _rate(record), ""))
    shown.append(("skipped ", f"{record.skipped:,}", "bold red" if record.skipped else ""))
    return Text("   ").join(Text.assemble((label, "dim"), (value, style)) for label, value, style in shown)


def _terms(record: StepRecord) -> Text:
    return Text("   ").join(
        Text.assemble((f"{term} ", "dim"), (f"{loss:.3f}", "green"), (f" {_scale(record, term)}", "dim"))
        for term, loss in record.losses.items()
    )


def _rate(record: StepRecord) -> str:
    trained = f"{record.samples_per_s:,.0f} samples/s"
    return f"{trained} of {record.drawn_per_s:,.0f} drawn" if record.drawn_per_s > record.samples_per_s else trained


def _scale(record: StepRecord, term: str) -> str:
    """The inverse temperature of the term, written as a factor."""
    return f"×{record.scales[term]:.1f}" if term in record.scales else ""


def clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
