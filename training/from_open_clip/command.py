"""Parses a command line of open_clip_train: the number of processes, and the value of every flag."""

import re
import shlex
from argparse import SUPPRESS, ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NoReturn

from tercet.errors import UserError

PROGRAM = re.compile(r"(.*/)?((open_clip_train|training)[./])?main(\.py)?")
NODES = ("--nnodes", "--nodes", "-N")
PER_NODE = ("--nproc_per_node", "--nproc-per-node")
TOTAL = ("-np", "--num-proc", "--ntasks", "-n")
TASKS_PER_NODE = ("--ntasks-per-node",)
JOB_LAUNCHERS = ("srun", "mpirun")  # without an option, they take the number of processes from their job


@dataclass(frozen=True)
class Command:
    """The value of every flag by its name, and the names of the flags on the command line."""

    processes: int
    values: Mapping[str, Any]
    given: frozenset[str]

    def __getitem__(self, name: str) -> Any:
        return self.values[attribute(name)]

    def spelt(self, name: str) -> str:
        """The flag with its value, as on a command line."""
        value = self[name]
        if isinstance(value, dict):
            value = [f"{key}={one}" for key, one in value.items()]
        values = value if isinstance(value, list) else [] if value is True else [value]
        return " ".join([name, *map(str, values)])


class CommandParser(ArgumentParser):
    """Accepts abbreviated flags, as the parser of open_clip_train does."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"open_clip_train 3.3.0 does not accept this command: {message}")


def read_command(text: str, options: Mapping[str, Mapping[str, Any]], processes: int | None) -> Command:
    """Parses a command line. `options` are argparse's arguments of each flag. `processes` overrides the launcher."""
    launcher, words = split(text)
    given = vars(_parser(options, default=SUPPRESS).parse_args(words))
    values = vars(_parser(options).parse_args([])) | given
    names = frozenset(name for name in options if attribute(name) in given)
    return Command(processes or launched(launcher), values, names)


def attribute(name: str) -> str:
    return name.lstrip("-").replace("-", "_")


def _parser(options: Mapping[str, Mapping[str, Any]], **overriding: object) -> CommandParser:
    parser = CommandParser(prog="open_clip_train", add_help=False)
    for name, option in options.items():
        parser.add_argument(name, **{**option, **overriding})
    return parser


def split(text: str) -> tuple[list[str], list[str]]:
    """Splits a command line into the words of the launcher and the flags of the program."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UserError(f"cannot parse the command line ({error}); check its quotes") from None
    programs = [place for place, word in enumerate(words) if PROGRAM.fullmatch(word)]
    if programs:
        return words[: programs[0]], words[programs[0] + 1 :]
    if words and not words[0].startswith("--"):
        raise UserError("the command has no `open_clip_train.main`; give all of it, or its flags")
    return [], words


def launched(launcher: Sequence[str]) -> int:
    """How many processes torchrun, horovodrun, mpirun or srun would start. srun or mpirun may launch a torchrun."""
    nodes = _number(launcher, NODES) or 1
    if per_node := _number(launcher, PER_NODE):
        return per_node * nodes
    if total := _number(launcher, TOTAL):
        return total
    if per_node := _number(launcher, TASKS_PER_NODE):
        return per_node * nodes
    if found := [word for word in launcher if word in JOB_LAUNCHERS]:
        raise UserError(f"`{found[0]}` has no option with the number of processes; give it with --processes N")
    return nodes


def _number(words: Sequence[str], names: Sequence[str]) -> int | None:
    options = [part for word in words for part in (word.split("=", 1) if word.startswith("-") else [word])]
    for option, value in pairwise(options):
        if option in names:
            if not value.isdecimal() or not int(value):
                raise UserError(f"`{option} {value}` is not a number of processes; give it with --processes N")
            return int(value)
    return None
