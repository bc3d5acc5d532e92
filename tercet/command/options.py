"""Options that several verbs share."""

import argparse
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from tercet.errors import UserError

READ_AS = "how the data are read, as in a recipe, such as text=title group=json.album part=[0.1,1]"
NAMED = re.compile(r"([\w.-]+)=(.+)", re.DOTALL)  # NAME=D
SETS_A_KEY = re.compile(r"[a-z_][\w.-]*=")


def takes_plugins(verb: argparse.ArgumentParser) -> None:
    text = "a Python file that registers components; may be repeated"
    verb.add_argument("--plugin", action="append", default=[], metavar="FILE.py", help=text)


def takes_overrides(verb: argparse.ArgumentParser, text: str) -> None:
    verb.add_argument("overrides", nargs="*", default=[], metavar="key=value", help=text)


def takes_many(verb: argparse.ArgumentParser, name: str, metavar: str, text: str, overrides: str) -> None:
    """Any number of words, then overrides. argparse cannot tell them apart; `part` does so afterwards."""
    verb.add_argument(name, nargs="*", default=[], metavar=metavar, help=text)
    takes_overrides(verb, overrides)
    verb.set_defaults(many=name)


def part(arguments: argparse.Namespace) -> None:
    """Words of the form key=value are overrides, unless a file has that name."""
    words: list[str] = getattr(arguments, arguments.many)
    overrides = [word for word in words if SETS_A_KEY.match(word) and not os.path.exists(word)]
    setattr(arguments, arguments.many, [word for word in words if word not in overrides])
    arguments.overrides += overrides


def output_file(text: str) -> Path:
    """Checks that the file can be written before the long work begins."""
    path = Path(text)
    if path.is_dir():
        raise UserError(f"--out {path} is a folder; name a file in it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            return path
    except OSError as error:
        raise UserError(f"--out {path} cannot be written: {error.strerror}; name a file elsewhere") from error


def processes(text: str) -> int:
    """The number of worker processes."""
    if not text.isdecimal() or not int(text):
        raise UserError(
            f"--workers {text} is not a number of processes; give a whole number of 1 or more, or leave it out"
        )
    return int(text)


def data_of(arguments: argparse.Namespace) -> str | dict[str, Any] | None:
    """The data that `--data` names, and how they are read."""
    from tercet.configs.layers import PLAIN, parse_override

    read_as = PLAIN.stack([parse_override(text) for text in arguments.overrides])
    if read_as and arguments.data is None:
        raise UserError(f"`{next(iter(read_as))}=…` says how data are read; name the data: --data D")
    return {"source": arguments.data, **read_as} if read_as else arguments.data


def datasets(given: list[str]) -> str | dict[str, Any] | None:
    """What `--data` names: nothing, one dataset, or several by name, which is the last part of the path by default."""
    if not given:
        return None
    found = [_named(text) for text in given]
    if len(found) == 1 and not found[0][0]:
        return given[0]
    last = [name or os.path.basename(path.rstrip("/")) or path for name, path in found]
    by_name: dict[str, Any] = {}
    for name, (own, path) in zip(last, found, strict=True):
        unique = name if last.count(name) == 1 or own else path
        if unique in by_name:
            raise UserError(f"--data: two datasets are named `{unique}`; name them as NAME=D")
        by_name[unique] = {"source": path}
    return {"val": by_name}


def _named(text: str) -> tuple[str, str]:
    """The name, if there is one, and the path."""
    found = NAMED.fullmatch(text)
    return (found[1], found[2]) if found and not os.path.exists(text) else ("", text)
