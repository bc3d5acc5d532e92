"""Which columns of a table are picture, sound, captions, key and group: guessed by name, or as the user says."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePath

from tercet.errors import UserError, did_you_mean
from tercet.modality import MODALITIES

PICTURES = frozenset(("jpg", "jpeg", "png", "webp"))
SOUNDS = frozenset(("wav", "flac", "ogg", "mp3", "opus"))

IMAGE = ("image", "image_path", "image_file", "img", "img_path", "picture", "photo", *sorted(PICTURES))
AUDIO = ("audio", "audio_path", "audio_file", "sound", "clip", *sorted(SOUNDS))
FILE = ("filepath", "file_path", "path", "file", "filename", "file_name")  # of either: the values tell
TEXT = ("text", "texts", "caption", "captions", "txt", "title", "titles", "description", "sentence", "sentences")
KEY = ("key", "__key__", "uid")
GROUP = ("group",)


@dataclass(frozen=True)
class Roles:
    """A column for each role; several may hold captions."""

    image: str | None = None
    audio: str | None = None
    text: tuple[str, ...] = ()
    key: str | None = None
    group: str | None = None
    others: tuple[str, ...] = ()  # columns that are named as a plugin's modality is

    @cached_property
    def media(self) -> dict[str, str]:
        """The column that names the files of each modality."""
        named = {"image": self.image, "audio": self.audio, **{name: name for name in self.others}}
        return {modality: column for modality, column in named.items() if column}

    @cached_property
    def taken(self) -> frozenset[str]:
        """Columns that become files or names, and are no further knowledge about the sample."""
        return frozenset(filter(None, (self.key, *self.media.values(), *self.text)))

    def __str__(self) -> str:
        named = [*self.media.items(), *(("text", column) for column in self.text)]
        named += [("key", self.key or ""), ("group", self.group or "")]
        return ", ".join(f"{role} from `{column}`" for role, column in named if column)


def check_roles(asked: Roles, columns: Sequence[str], where: str) -> None:
    for column in (asked.image, asked.audio, *asked.text, asked.key, asked.group):
        if column is not None and column not in columns:
            raise UserError(f"{where} has no column `{column}`; {did_you_mean(column, columns)}")


def choose_roles(asked: Roles, columns: Sequence[str], first: Sequence[Mapping[str, object]], where: str) -> Roles:
    """The columns asked for, and guesses for the rest by their names and the first rows."""
    check_roles(asked, columns, where)
    free = {plain(column): column for column in reversed(columns) if column not in asked.taken}
    files = [column for name in FILE if (column := free.get(name))]
    roles = replace(
        asked,
        image=asked.image or _named(IMAGE, free) or _holding(PICTURES, files, first),
        audio=asked.audio or _named(AUDIO, free) or _holding(SOUNDS, files, first),
        text=asked.text or _captions(columns, free),
        key=asked.key or _named(KEY, free),
        group=asked.group or _named(GROUP, free),
        others=tuple(name for name in MODALITIES if name in columns and name not in ("image", "audio", "text")),
    )
    if not roles.media:
        raise UserError(
            f"{where}: no column is known to name pictures or sounds; say which does with `image` or `audio` "
            f"(columns: {', '.join(columns)})"
        )
    return roles


def plain(column: str) -> str:
    return re.sub(r"[\s.-]+", "_", column.strip().lower())


def _named(names: Iterable[str], free: Mapping[str, str]) -> str | None:
    return next((free[name] for name in names if name in free), None)


def _holding(extensions: frozenset[str], files: Sequence[str], first: Sequence[Mapping[str, object]]) -> str | None:
    """The column of files whose values mostly end so."""
    for column in files:
        ends = [PurePath(str(row[column])).suffix[1:].lower() in extensions for row in first if row.get(column)]
        if sum(ends) * 2 > len(ends):
            return column
    return None


def _captions(columns: Sequence[str], free: Mapping[str, str]) -> tuple[str, ...]:
    """`caption`, and with it `caption_1`, `caption2` and so on."""
    for name in TEXT:
        numbered = re.compile(rf"{name}_?\d*")
        found = tuple(c for c in columns if numbered.fullmatch(plain(c)) and c in free.values())
        if found:
            return found
    return ()
