"""A diagnosis as a person reads it: by room, and the mend beneath what is wrong."""

from collections.abc import Sequence
from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tercet.doctor.finding import Finding, healthy

MARKS = {"ok": "[green]✓[/green]", "warn": "[yellow]![/yellow]", "fail": "[red]✗[/red]"}


def print_findings(findings: Sequence[Finding]) -> None:
    console = Console(highlight=False)
    for room, members in groupby(findings, key=lambda finding: finding.room):
        console.print(f"\n[bold]{room}[/bold]")
        console.print(_table(list(members)))
    warnings = sum(finding.state == "warn" for finding in findings)
    verdict = "[green]all is well[/green]" if healthy(findings) else "[red]something must be mended[/red]"
    console.print(f"\n{verdict}" + (f", {warnings} to keep in mind" if warnings else ""))


def _table(findings: list[Finding]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(width=2, justify="right")
    table.add_column(min_width=16, no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        table.add_row(MARKS[finding.state], finding.name, Text(finding.found))
        if finding.mend:
            table.add_row("", "", Text(f"→ {finding.mend}", style="cyan"))
    return table
