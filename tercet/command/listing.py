"""Prints the built-in recipes as a table."""

from rich import box
from rich.console import Console
from rich.table import Table


def print_recipes(about: dict[str, str]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("recipe", style="bold cyan", no_wrap=True)
    table.add_column("one complete run", overflow="fold")
    for name, summary in about.items():
        table.add_row(name, summary)
    console = Console(highlight=False)
    console.print(table)
    console.print("tercet train RECIPE [key=value …]  ·  tercet recipes show RECIPE", style="dim", markup=False)
