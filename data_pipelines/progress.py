"""How far a long work is, on the terminal of the process that speaks; beside the results, which may be JSON."""

import sys
from collections.abc import Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import track

from tercet.speaker import speaks

Item = TypeVar("Item")


def shown(items: Iterable[Item], purpose: str, total: int) -> Iterable[Item]:
    hidden = not (speaks() and sys.stderr.isatty())
    return track(items, purpose, total, console=Console(stderr=True), transient=True, disable=hidden)
