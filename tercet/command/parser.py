"""The parser of the command line: mistakes raise `UserError`, and help has two columns."""

import argparse
import os
from typing import NoReturn, TypeAlias

from tercet.command.verbs import help
from tercet.errors import UserError, did_you_mean


class Parser(argparse.ArgumentParser):
    """Raises `UserError` for mistakes, with the nearest known choice for an unknown one."""

    def __init__(self, **options: object) -> None:
        super().__init__(allow_abbrev=False, formatter_class=HelpFormatter, **options)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see `{self.prog} --help`")

    def _check_value(self, action: argparse.Action, value: object) -> None:
        choices: list[str] | None = None if action.choices is None else list(action.choices)
        if choices is not None and value not in choices:
            raise UserError(f"unknown {action.metavar or action.dest} `{value}`; {did_you_mean(str(value), choices)}")


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help in two columns, without a heading line above the list of verbs."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=min(110, int(os.environ.get("COLUMNS", 110))))

    def _format_action(self, action: argparse.Action) -> str:
        text = super()._format_action(action)
        return text.partition("\n")[2] if isinstance(action, argparse._SubParsersAction) else text


Verbs: TypeAlias = "argparse._SubParsersAction[Parser]"


def add_verb(known: Verbs, name: str, purpose: str) -> Parser:
    verb = known.add_parser(name, help=purpose, description=purpose[0].upper() + purpose[1:] + ".")
    verb.set_defaults(parser=verb, verb=help)
    return verb
