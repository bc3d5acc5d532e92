"""Of the many processes that a launcher starts, one is_main_process."""

import os
import sys


def is_main_process() -> bool:
    """Launchers number the processes; a process that nobody numbered is alone."""
    return os.environ.get("RANK", "0") == "0"


def say(line: str) -> None:
    """Beside the results, which may be JSON."""
    if is_main_process():
        print(f"tercet: {line}", file=sys.stderr)
