"""What docs/export.md says: its commands are valid, and its table names every format."""

import re
import shlex
from pathlib import Path

from tercet.command.arguments import parse
from tercet.models.export.config import FORMATS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "export.md").read_text(encoding="utf-8")


def test_the_commands_are_valid() -> None:
    commands = re.findall(r"^    tercet (.+)$", PAGE, re.MULTILINE)
    assert len(commands) >= 5
    for command in commands:
        arguments = parse(shlex.split(command, comments=True))
        if arguments.parser.prog == "tercet export":
            assert arguments.format in FORMATS.names()


def test_the_table_names_every_format() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", PAGE.partition("## Which format")[2].partition("###")[0], re.MULTILINE)
    assert set(rows) >= set(FORMATS.names())
