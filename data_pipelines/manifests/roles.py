"""Which columns of a table hold pictures, sounds, captions, keys and groups: as the user says, or guessed by the names
of the columns and by their cells."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

from tercet.data_pipelines.captions.languages import by_language, language
from tercet.data_pipelines.manifests.contents import UNSURE, has_words, medium_in, value_in
from tercet.errors import UserError, did_you_mean
from tercet.modality import FILES, MODALITIES

IMAGE = ("image", "image_path", "image_file", "img", "img_path", "picture", "photo", *FILES["image"])
AUDIO = ("audio", "audio_path", "audio_file", "sound", "clip", *FILES["audio"])
FILE = ("filepath", "file_path", "path", "file", "filename", "file_name")  # of either, as their cells tell
TEXT = (
    "text", "texts", "caption", "captions", "txt", "title", "titles", "description", "sentence", "sentences",
    "transcript", "transcription", "alt", "alt_text", "prompt", "words", "word",
)  # fmt: skip
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
    others: tuple[str, ...] = ()  # columns named like the modality of a plugin
    files: tuple[tuple[str, str], ...] = ()  # columns of further pictures and sounds, each after its name

    @cached_property
    def media(self) -> dict[str, str]:
        """The column that names the files of each modality."""
        named = {"image": self.image, "audio": self.audio, **{name: name for name in self.others}}
        return {modality: column for modality, column in named.items() if column}

    @cached_property
    def taken(self) -> frozenset[str]:
        """Columns that become files, captions or keys."""
        further = (column for _, column in self.files)
        return frozenset(filter(None, (self.key, *self.media.values(), *self.text, *further)))

    def __str__(self) -> str:
        named = [*self.media.items(), *(("text", column) for column in self.text)]
        named += [("key", self.key or ""), ("group", self.group or ""), *self.files]
        return ", ".join(f"{role} from `{column}`" for role, column in named if column)


def check_roles(asked: Roles, columns: Sequence[str], where: str) -> None:
    """Refuses columns that do not exist. Captions may lie deeper, as `words.en` in a column `words`."""
    nested = [column.partition(".")[0] if column not in columns else column for column in asked.text]
    further = (column for _, column in asked.files)
    for column in (asked.image, asked.audio, *nested, asked.key, asked.group, *further):
        if column is not None and column not in columns:
            raise UserError(f"{where} has no column `{column}`; {did_you_mean(column, columns)}")


def choose_roles(asked: Roles, columns: Sequence[str], first: Sequence[Mapping[str, object]], where: str) -> Roles:
    """The columns asked for, and guesses for the rest by their names and the first rows."""
    check_roles(asked, columns, where)
    cells = {column: [row.get(column) for row in first] for column in columns if column not in asked.taken}
    free = {plain(column): column for column in reversed(list(cells))}
    likely = dict.fromkeys([*(free[name] for name in FILE if name in free), *cells])
    holding = {column: medium_in(cells[column], str(Path(where).parent)) for column in likely}
    roles = replace(
        asked,
        image=asked.image or _named(IMAGE, free) or _holding("image", holding),
        audio=asked.audio or _named(AUDIO, free) or _holding("audio", holding),
        key=asked.key or _named(KEY, free),
        group=asked.group or _named(GROUP, free),
        others=tuple(name for name in MODALITIES if name in columns and name not in ("image", "audio", "text")),
    )
    rest = {column: values for column, values in cells.items() if column not in roles.taken and not holding[column]}
    roles = replace(roles, text=asked.text or _captions(rest) or _by_language(rest))
    alone = roles.text and (asked.text or not any(_locates(column, rest[column]) for column in rest))
    if not roles.media and not alone:
        raise UserError(
            f"{where}: no column seems to name or hold pictures or sounds; set `image` or `audio` to one "
            f"(columns: {', '.join(columns)}), or `text` if there are captions only"
        )
    return roles


def _locates(column: str, cells: Iterable[object]) -> bool:
    """Whether a column may name files, even if it does not show of which kind."""
    return plain(column) in (*FILE, *IMAGE, *AUDIO, "url") or any("://" in str(cell) for cell in cells)


def plain(column: str) -> str:
    return re.sub(r"[\s.-]+", "_", column.strip().lower())


def _named(names: Iterable[str], free: Mapping[str, str]) -> str | None:
    return next((free[name] for name in names if name in free), None)


def _holding(modality: str, holding: Mapping[str, str | None]) -> str | None:
    return next((column for column, found in holding.items() if found == modality), None)


def _captions(cells: Mapping[str, Sequence[object]]) -> tuple[str, ...]:
    """`caption`, and with it `caption_1`, `caption2`, `caption_de` and so on."""
    for name in TEXT:
        found = tuple(column for column in cells if _is_numbered(name, plain(column)))
        if found:
            return found
    return ()


def _is_numbered(name: str, column: str) -> bool:
    ending = column.removeprefix(name)
    return column.startswith(name) and (
        not ending or ending.removeprefix("_").isdecimal() or (ending[0] == "_" and language(ending[1:]) is not None)
    )


def _by_language(cells: Mapping[str, Sequence[object]]) -> tuple[str, ...]:
    """Columns named `en`, `de` and so on; several such as `words.en` and `words.de`; or cells that hold such keys."""
    nested = [column for column, values in cells.items() if any(by_language(value_in(value)) for value in values)]
    worded = [column for column, values in cells.items() if has_words(values)]
    alone = [column for column in worded if language(column)]
    if len(alone) == 1 and alone[0].lower() in UNSURE:
        alone = []
    stems = Counter(_stem(column) for column in worded)
    several = [column for column in worded if _stem(column) and stems[_stem(column)] > 1]
    return tuple(nested or alone or several)


@cache
def language_of(column: str) -> str:
    """The language that `de`, `caption_de` or `words.pt-BR` names; empty if the column names none."""
    endings = (column[sign.end() :] for sign in re.finditer(r"[\s._-]+", column))
    return next((name for name in (column, *endings) if language(name)), "")


def _stem(column: str) -> str:
    """What is before the language; nothing if the name does not end with one."""
    stem, _, ending = plain(column).rpartition("_")
    return stem if language(ending) else ""
