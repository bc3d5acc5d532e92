"""Prints a diagnosis for people: by group, with the fix below each problem."""

from collections.abc import Sequence
from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tercet.doctor.finding import Finding, healthy

MARKS = {"ok": "[green]✓[/green]", "warn": "[yellow]![/yellow]", "fail": "[red]✗[/red]"}


def print_findings(findings: Sequence[Finding]) -> None:
    console = Console(highlight=False)
    for group, members in groupby(findings, key=lambda finding: finding.group):
        console.print(f"\n[bold]{group}[/bold]")
        console.print(_table(list(members)))
    warnings = sum(finding.state == "warn" for finding in findings)
    verdict = "[green]everything is in order[/green]" if healthy(findings) else "[red]some problems must be fixed[/red]"
    console.print(f"\n{verdict}" + (f", {warnings} warnings" if warnings else ""))


def _table(findings: list[Finding]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(width=2, justify="right")
    table.add_column(min_width=16, no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        table.add_row(MARKS[finding.state], finding.name, Text(finding.found))
        if finding.fix:
            table.add_row("", "", Text(f"→ {finding.fix}", style="cyan"))
    return table
