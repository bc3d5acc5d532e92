"""Prints recipes and objectives for people."""

import re
from collections.abc import Sequence
from textwrap import fill, indent
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from tercet.models.losses.about import About

WIDEST = 110  # longer lines are hard to read


def print_recipes(about: dict[str, str]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("recipe", style="bold cyan", no_wrap=True)
    table.add_column("one complete run", overflow="fold")
    for name, summary in about.items():
        table.add_row(name, summary)
    console = Console(highlight=False)
    console.print(table)
    console.print("tercet train RECIPE [key=value …]  ·  tercet recipes show RECIPE", style="dim", markup=False)


def print_objectives(known: "Sequence[About]") -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("objective", style="bold cyan", no_wrap=True)
    table.add_column("what it trains", overflow="fold")
    table.add_column("source", overflow="fold")
    for one in known:
        table.add_row(one.name, one.summary, one.source)
    console = Console(highlight=False)
    console.print(table)
    console.print("tercet recipes show --objective NAME  ·  objective=NAME in a recipe", style="dim", markup=False)


def print_objective(about: "About") -> None:
    console = Console(highlight=False)
    width = min(console.width, WIDEST)
    source = f" ({about.source})" if about.source else ""
    console.print(Text(fill(f"{about.name}: {about.summary}{source}", width), "bold"))
    for paragraph in about.text.split("\n\n"):
        console.print(Text(f"\n{_wrapped(paragraph, width)}"), soft_wrap=True)
    for heading, options in about.options:
        console.print(Text(f"\n{heading}", "bold"))
        for option in options:
            console.print(Text(f"  {option.setting:<30}", "cyan").append(option.allowed, "dim"), soft_wrap=True)
            console.print(Text(indent(fill(option.meaning, width - 6), " " * 6)), soft_wrap=True)


def _wrapped(paragraph: str, width: int) -> str:
    """Leaves formulas as they are, and wraps each item of a list by itself."""
    if "\n    " in f"\n{paragraph}":
        return paragraph
    items = [" ".join(item.split()) for item in re.split(r"\n(?=- )", paragraph)]
    return "\n".join(fill(item, width, subsequent_indent="  " * item.startswith("- ")) for item in items)
