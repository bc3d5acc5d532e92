"""A flag of open_clip_train and its translation: keys of a recipe, or a note that gives the reason for having none."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tercet.training.from_open_clip.command import Command

Fate = Literal["differs", "no counterpart", "not needed"]


@dataclass(frozen=True)
class Key:
    """A dotted key of the recipe and its value."""

    path: str
    value: object


@dataclass(frozen=True)
class Note:
    """A difference that the keys of the recipe do not show."""

    fate: Fate
    flag: str
    reason: str


Rule = Callable[[Command], Iterable[Key | Note]]


@dataclass(frozen=True)
class Flag:
    """One row of the table: argparse's arguments of the flag, its translation in words, and the rule that makes it."""

    name: str
    option: Mapping[str, Any]
    becomes: str
    rule: Rule


SWITCH: Mapping[str, Any] = {"action": "store_true", "default": False}


def taking(kind: Callable[[str], object] = str, default: object = None, **more: object) -> dict[str, Any]:
    """The arguments of an option that takes a value."""
    return {"type": kind, "default": default, **more}


def kept(name: str, option: Mapping[str, Any], *paths: str) -> Flag:
    """A flag whose value has the same meaning in a recipe."""

    def rule(command: Command) -> Iterable[Key]:
        value = command[name]
        return [Key(path, value) for path in paths if value is not None and value is not False]

    return Flag(name, option, " and ".join(f"`{path}`" for path in paths), rule)


def lacking(name: str, option: Mapping[str, Any], reason: str) -> Flag:
    return _listed(name, option, "no counterpart", reason)


def needless(name: str, option: Mapping[str, Any], reason: str) -> Flag:
    return _listed(name, option, "not needed", reason)


def _listed(name: str, option: Mapping[str, Any], fate: Fate, reason: str) -> Flag:
    return Flag(name, option, f"{fate}: {reason}", lambda command: note_if_given(command, fate, name, reason))


def with_another(name: str, option: Mapping[str, Any], becomes: str) -> Flag:
    """A flag that the rule of another flag reads."""
    return Flag(name, option, becomes, lambda command: ())


def note_if_given(command: Command, fate: Fate, name: str, reason: str) -> list[Note]:
    """A note about a flag, if it is on the command line."""
    return [Note(fate, command.spelt(name), reason)] if name in command.given else []
