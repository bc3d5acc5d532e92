"""One sample of a manifest of any kind."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

from tercet.data_pipelines.manifests.medium import Medium, named

NOT_UTF8 = "not UTF-8"
UNSAFE = re.compile(r"[%\\\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Entry:
    """One sample: its media by kind, with paths relative to `root`. In a folder, kinds are also text and json."""

    row: int
    key: str
    root: Path
    names: Mapping[str, Medium]
    captions: tuple[str, ...]
    meta: Mapping[str, object]


class LeftOut(NamedTuple):
    """A row that cannot be used: its number from one, the file at fault as in the manifest, and a fixed reason."""

    row: int
    path: str
    reason: str


Outcome: TypeAlias = Entry | LeftOut


def usable(entries: Iterable[Outcome]) -> Iterator[Outcome]:
    """Entries that are valid UTF-8, each with a key of its own: the first entry with a key keeps it."""
    seen: set[str] = set()
    for entry in entries:
        if isinstance(entry, LeftOut):
            yield entry._replace(path=entry.path.encode(errors="backslashreplace").decode())
        elif not _is_text(entry):
            yield _left_out(entry, NOT_UTF8)
        elif entry.key in seen:
            yield _left_out(entry, "duplicate key")
        else:
            seen.add(entry.key)
            yield entry


def text_files(captions: Sequence[str], meta: Mapping[str, object]) -> dict[str, str]:
    """Captions, one on each line, and metadata, as files. Captions with line breaks are in the metadata."""
    lines = [" ".join(caption.splitlines()) for caption in captions]
    full = {**meta, "captions": list(captions)} if lines != list(captions) else meta
    text = {"txt": "\n".join(lines)} if lines else {}
    return {**text, "json": json.dumps(full, ensure_ascii=False)}


def _left_out(entry: Entry, reason: str) -> LeftOut:
    path = named(next(iter(entry.names.values()), ""))
    return LeftOut(entry.row, path.encode(errors="backslashreplace").decode(), reason)


def _is_text(entry: Entry) -> bool:
    """Whether all of it is UTF-8: other bytes come as lone surrogates, from tables and from file names."""
    try:
        names = [named(medium) for medium in entry.names.values()]
        json.dumps([entry.key, names, entry.captions, entry.meta], ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def safe_key(name: str) -> str:
    """The name as a valid key in a tar: relative, inside the tar, and without a dot in its last part.

    webdataset ends a key at the first dot of the last part. Escapes keep different names different.
    """
    parts = [_escaped(part) for part in name.split("/") if part not in ("", ".")]
    parts = [part.replace(".", "%2E") if part == ".." else part for part in parts]
    return "/".join([*parts[:-1], parts[-1].replace(".", "%2E")]) if parts else ""


def _escaped(part: str) -> str:
    return UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", part)
