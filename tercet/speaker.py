"""Of the many processes that a launcher starts, one speaks."""

import os
import sys


def speaks() -> bool:
    """Launchers number the processes; a process that nobody numbered is alone."""
    return os.environ.get("RANK", "0") == "0"


def say(line: str) -> None:
    """Beside the results, which may be JSON."""
    if speaks():
        print(f"tercet: {line}", file=sys.stderr)
