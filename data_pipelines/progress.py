"""Progress of long work, printed by the main process, apart from the results, which may be JSON."""

import sys
from collections.abc import Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import track

from tercet.main_process import is_main_process

Item = TypeVar("Item")


def shown(items: Iterable[Item], purpose: str, total: int) -> Iterable[Item]:
    hidden = not (is_main_process() and sys.stderr.isatty())
    return track(items, purpose, total, console=Console(stderr=True), transient=True, disable=hidden)
