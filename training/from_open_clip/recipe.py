"""Translates a command line of open_clip_train to a recipe. Comments in the recipe list all differences."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from textwrap import wrap
from typing import Any, get_args

from tercet.configs.base import build
from tercet.configs.layers import nested
from tercet.configs.yaml_text import write_yaml
from tercet.training.config import RunConfig
from tercet.training.from_open_clip.command import read_command
from tercet.training.from_open_clip.data_flags import DATA_FLAGS
from tercet.training.from_open_clip.flag import Fate, Flag, Key, Note
from tercet.training.from_open_clip.model_flags import MODEL_FLAGS
from tercet.training.from_open_clip.training_flags import TRAINING_FLAGS
from tercet.training.layering import RECIPE

FLAGS: tuple[Flag, ...] = (*DATA_FLAGS, *MODEL_FLAGS, *TRAINING_FLAGS)
WIDTH = 110


@dataclass(frozen=True)
class Translation:
    """The keys of the recipe, and notes about differences that the keys do not show."""

    command: str
    values: dict[str, Any]
    notes: tuple[Note, ...]

    def recipe(self) -> str:
        """The recipe as YAML. Its first comment is its line in the list of recipes."""
        notes = [*self.note_lines()]
        about = [f"open_clip_train's {self.values['model']['image']['encoder']}", "", " ".join(self.command.split())]
        lines = chain.from_iterable(map(_wrapped, [*about, "", *notes] if notes else about))
        return "\n".join(f"# {line}".rstrip() for line in lines) + "\n\n" + write_yaml(self.values)

    def note_lines(self) -> Iterator[str]:
        """One line for each note, by kind: first the differences, then what has no counterpart or is not needed."""
        for fate in get_args(Fate):
            for note in (note for note in self.notes if note.fate == fate):
                yield f"{fate}: {note.flag}: {note.reason}"


def _wrapped(text: str) -> list[str]:
    return wrap(text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False) or [""]


def translate(text: str, processes: int | None = None) -> Translation:
    text = text.replace("\\\n", " ")
    command = read_command(text, {flag.name: flag.option for flag in FLAGS}, processes)
    found = [finding for flag in FLAGS for finding in flag.rule(command)]
    values: dict[str, Any] = {}
    for key in found:
        if isinstance(key, Key):
            values = RECIPE.lay(values, nested(key.path, key.value))
    ordered = {name: values[name] for name in RunConfig.model_fields if name in values}
    build(RunConfig, {"name": "open_clip"} | ordered, lambda key: "the translated recipe")
    return Translation(text, ordered, tuple(note for note in found if isinstance(note, Note)))


def flag_table() -> str:
    """All flags of open_clip_train and their translations, as a Markdown table."""
    rows = (f"| `{flag.name}` | {_default(flag.option.get('default'))} | {flag.becomes} |" for flag in FLAGS)
    return "\n".join(["| open_clip_train | default | tercet |", "|---|---|---|", *rows])


def _default(value: object) -> str:
    return "" if value in (None, False, "", {}) else f"`{value!r}`" if value == "\t" else f"`{value}`"
