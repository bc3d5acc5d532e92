"""Only one of the processes that a launcher starts prints for people: the main process."""

import os
import sys


def is_main_process() -> bool:
    """Launchers set RANK. A process without it runs alone."""
    return os.environ.get("RANK", "0") == "0"


def say(line: str) -> None:
    """Prints a line for people on stderr, because the results on stdout may be JSON."""
    if is_main_process():
        print(f"tercet: {line}", file=sys.stderr)
