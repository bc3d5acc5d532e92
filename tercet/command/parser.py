"""Adds a command to the parser of the command line."""

import argparse
from typing import Any, TypeAlias

from tercet.command.verbs import help
from tercet.parser import Parser

Verbs: TypeAlias = "argparse._SubParsersAction[Parser]"


def add_verb(known: Verbs, name: str, purpose: str, **options: Any) -> Parser:
    verb = known.add_parser(name, help=purpose, description=purpose[0].upper() + purpose[1:] + ".", **options)
    verb.set_defaults(parser=verb, verb=help)
    return verb
