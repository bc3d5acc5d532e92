"""A progress bar for long work, on stderr of the main process, so that JSON on stdout stays valid."""

import sys
from collections.abc import Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import track

from tercet.main_process import is_main_process

Item = TypeVar("Item")


def with_progress(items: Iterable[Item], purpose: str, total: int) -> Iterable[Item]:
    hidden = not (is_main_process() and sys.stderr.isatty())
    return track(items, purpose, total, console=Console(stderr=True), transient=True, disable=hidden)
