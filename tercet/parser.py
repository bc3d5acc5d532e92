"""The parser of commands and benchmarks: a mistake raises `UserError`, and help has two columns."""

import argparse
import re
import shutil
import textwrap
from typing import NoReturn

from tercet.errors import UserError, did_you_mean

WIDEST = 110


class Parser(argparse.ArgumentParser):
    """Raises `UserError` for mistakes, with the nearest known choice for an unknown one."""

    def __init__(self, **options: object) -> None:
        super().__init__(allow_abbrev=False, formatter_class=HelpFormatter, **options)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        if alternatives := re.fullmatch("one of the arguments (.+) is required", message):
            message = f"give {' or '.join(alternatives[1].split())}"
        raise UserError(f"{message}; see `{self.prog} --help`")

    def _check_value(self, action: argparse.Action, value: object) -> None:
        choices: list[str] | None = None if action.choices is None else list(action.choices)
        if choices is not None and value not in choices:
            name = "/".join(action.option_strings) or action.metavar or action.dest
            raise UserError(f"unknown {name} `{value}`; {did_you_mean(str(value), choices)}")


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help in two columns, without a heading line above the list of commands."""

    def __init__(self, prog: str) -> None:
        width = min(WIDEST, shutil.get_terminal_size((WIDEST, 0)).columns)
        super().__init__(prog, max_help_position=28, width=width)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(_fill(block, width) for block in re.split(r"\n(?=\n|- )", text))

    def _format_action(self, action: argparse.Action) -> str:
        text = super()._format_action(action)
        return text.partition("\n")[2] if isinstance(action, argparse._SubParsersAction) else text


def _fill(block: str, width: int) -> str:
    """Wraps a paragraph or an item of a list. A paragraph with indented lines, such as commands, stays as it is."""
    item = block.startswith("- ")
    if "\n " in block and not item:
        return block
    blank = "\n" if block.startswith("\n") else ""
    return blank + textwrap.fill(" ".join(block.split()), width, subsequent_indent="  " if item else "")
