"""Of the many processes that a launcher starts, one speaks."""

import os


def speaks() -> bool:
    """Launchers number the processes; a process that nobody numbered is alone."""
    return os.environ.get("RANK", "0") == "0"
