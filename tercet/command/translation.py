"""`tercet recipes from-open-clip`: a recipe from a command line of open_clip_train."""

import argparse
import sys
from argparse import Namespace
from pathlib import Path

from tercet.errors import UserError


def declare(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("command", metavar="COMMAND", help="the whole command line, in quotes, with its launcher or not")
    verb.add_argument("--out", type=Path, metavar="FILE", help="write the recipe there (default: print it)")
    verb.add_argument("--processes", type=int, metavar="N", help="processes in all (default: what the launcher says)")
    verb.set_defaults(verb=from_open_clip)


def from_open_clip(arguments: Namespace) -> int:
    """What the recipe cannot say is told beside it, too: a reader of a file may not look at its comments."""
    from tercet.training.from_open_clip import translate

    if arguments.processes is not None and arguments.processes < 1:
        raise UserError(f"--processes {arguments.processes} are none; take a whole number from 1 up")
    translation = translate(arguments.command, arguments.processes)
    if arguments.out:
        try:
            arguments.out.write_text(translation.recipe(), encoding="utf-8")
        except OSError as error:
            raise UserError(f"--out {arguments.out} cannot be written: {error.strerror}") from error
    else:
        sys.stdout.write(translation.recipe())
    for line in translation.told():
        print(f"tercet: {line}", file=sys.stderr)
    return 0
