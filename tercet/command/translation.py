"""`tercet recipes from-open-clip`: a recipe from a command line of open_clip_train."""

import argparse
import sys
from argparse import Namespace
from pathlib import Path

from tercet.errors import UserError


def declare(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "command", metavar="COMMAND", help="the whole command line in quotes, with or without its launcher"
    )
    verb.add_argument("--out", type=Path, metavar="FILE", help="write the recipe to this file (default: print it)")
    verb.add_argument(
        "--processes", type=int, metavar="N", help="number of processes (default: taken from the launcher)"
    )
    verb.set_defaults(verb=from_open_clip)


def from_open_clip(arguments: Namespace) -> int:
    """Prints what the recipe cannot express on stderr as well, because comments in a file are easy to miss."""
    from tercet.training.from_open_clip import translate

    if arguments.processes is not None and arguments.processes < 1:
        raise UserError(f"--processes is {arguments.processes}; give a whole number of 1 or more")
    translation = translate(arguments.command, arguments.processes)
    if arguments.out:
        try:
            arguments.out.write_text(translation.recipe(), encoding="utf-8")
        except OSError as error:
            raise UserError(f"--out {arguments.out} cannot be written: {error.strerror}") from error
    else:
        sys.stdout.write(translation.recipe())
    for line in translation.note_lines():
        print(f"tercet: {line}", file=sys.stderr)
    return 0
