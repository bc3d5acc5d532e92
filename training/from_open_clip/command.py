"""A command line of open_clip_train, taken apart: how many processes run it, and the value of every flag."""

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
OF_A_NODE = ("--nproc_per_node", "--nproc-per-node")
IN_ALL = ("-np", "--num-proc", "--ntasks", "-n")
TASKS_OF_A_NODE = ("--ntasks-per-node",)
OF_A_JOB = ("srun", "mpirun")  # where they are given no number, the job they run in has it


@dataclass(frozen=True)
class Command:
    """The value of every flag, asked for by its name, and the names of those that were given."""

    processes: int
    values: Mapping[str, Any]
    given: frozenset[str]

    def __getitem__(self, name: str) -> Any:
        return self.values[attribute(name)]

    def spelt(self, name: str) -> str:
        """A flag with its value, as on a command line."""
        value = self[name]
        if isinstance(value, dict):
            value = [f"{key}={one}" for key, one in value.items()]
        values = value if isinstance(value, list) else [] if value is True else [value]
        return " ".join([name, *map(str, values)])


class CommandParser(ArgumentParser):
    """Takes abbreviations, as theirs does."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"open_clip_train 3.3.0 would refuse this command: {message}")


def read_command(text: str, options: Mapping[str, Mapping[str, Any]], processes: int | None) -> Command:
    """`options` are the flags as argparse takes them; `processes` outweighs what the launcher says."""
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
    """The words up to the program, which launch it, and those after it, which are its own."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UserError(f"the command line cannot be read as a shell would ({error}); check its quotes") from None
    programs = [place for place, word in enumerate(words) if PROGRAM.fullmatch(word)]
    if programs:
        return words[: programs[0]], words[programs[0] + 1 :]
    if words and not words[0].startswith("--"):
        raise UserError("the command names no `open_clip_train.main`; give it whole, or its flags alone")
    return [], words


def launched(launcher: Sequence[str]) -> int:
    """How many processes torchrun, horovodrun, mpirun or srun would start; a torchrun may stand within another."""
    nodes = _stated(launcher, NODES) or 1
    if each := _stated(launcher, OF_A_NODE):
        return each * nodes
    if whole := _stated(launcher, IN_ALL):
        return whole
    if each := _stated(launcher, TASKS_OF_A_NODE):
        return each * nodes
    if silent := [word for word in launcher if word in OF_A_JOB]:
        raise UserError(f"`{silent[0]}` states no number of processes; say it by --processes N")
    return nodes


def _stated(words: Sequence[str], names: Sequence[str]) -> int | None:
    options = [part for word in words for part in (word.split("=", 1) if word.startswith("-") else [word])]
    for option, value in pairwise(options):
        if option in names:
            if not value.isdecimal() or not int(value):
                raise UserError(f"`{option} {value}` states no number of processes; say it by --processes N")
            return int(value)
    return None
