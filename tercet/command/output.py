"""How verbs print their results: as a table for people, or in a format for other programs, also to a file."""

from argparse import Namespace
from pathlib import Path
from typing import Any, Protocol

from tercet.command.options import output_file
from tercet.command.verbs import json_text, print_json
from tercet.errors import UserError, did_you_mean
from tercet.main_process import is_main_process
from tercet.parser import Parser

WIDTH = 110  # of output that is not a terminal
FORMATS = {".json": "json", ".csv": "csv", ".md": "markdown"}  # by the ending of a file


class Printable(Protocol):
    """Results in every format."""

    def to_json(self) -> Any: ...

    def to_csv(self) -> str: ...

    def to_markdown(self) -> str: ...

    def drawn(self) -> object: ...


def takes_formats(verb: Parser) -> None:
    which = verb.add_mutually_exclusive_group()
    formats = ("table", *FORMATS.values())
    which.add_argument("--format", choices=formats, default="table", help="what to print (default: table)")
    which.add_argument("--json", action="store_const", dest="format", const="json", help="the same as --format json")
    text = f"also write the results to a file, whose ending says how: {', '.join(FORMATS)}"
    verb.add_argument("--out", type=result_file, metavar="FILE", help=text)


def result_file(text: str) -> Path:
    """Checks the file before the long work begins."""
    path = output_file(text)
    if path.suffix not in FORMATS:
        raise UserError(f"--out {path}: the ending says how results are written; {did_you_mean(path.suffix, FORMATS)}")
    return path


def print_results(arguments: Namespace, found: Printable) -> None:
    """Prints the results, and writes them to the file, from the main process only."""
    if not is_main_process():
        return
    if arguments.out:
        arguments.out.write_text(formatted(found, FORMATS[arguments.out.suffix]), encoding="utf-8")
    if arguments.format == "table":
        draw(found.drawn())
    else:
        print(formatted(found, arguments.format), end="")


def formatted(found: Printable, format: str) -> str:
    if format == "json":
        return json_text(found.to_json()) + "\n"
    return found.to_csv() if format == "csv" else found.to_markdown()


def show(arguments: Namespace, data: object, drawn: object) -> None:
    """Prints the result of a verb that knows JSON only, from the main process only."""
    if is_main_process():
        print_json(data) if arguments.json else draw(drawn)


def draw(drawn: object) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    console.print(drawn)
