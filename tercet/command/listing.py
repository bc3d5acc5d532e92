"""Prints recipes, objectives, tasks and kinds of tasks for people."""

import re
from collections.abc import Iterable
from textwrap import fill, indent
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from tercet.configs.about import About

WIDEST = 110  # longer lines are hard to read


def print_summaries(heading: tuple[str, ...], rows: Iterable[tuple[str, ...]], next: str) -> None:
    """A row for each component, and below the table what to call next."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    first, *others = heading
    table.add_column(first, style="bold cyan", no_wrap=True)
    for words in others:
        table.add_column(words, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False)
    console.print(table)
    console.print(next, style="dim", markup=False)


def print_about(about: "About") -> None:
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
