"""What a manifest says of one sample, whatever kind of manifest it is."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

from tercet.data_pipelines.manifests.medium import Medium, named

UNSAFE = re.compile(r"[%\\\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Entry:
    """One sample to be. Its media by kind, with paths from `root`: image, audio, and of a folder also text and json."""

    row: int
    key: str
    root: Path
    names: Mapping[str, Medium]
    captions: tuple[str, ...]
    meta: Mapping[str, object]


class LeftOut(NamedTuple):
    """A row that gives no sample: counted from one, the file at fault as the manifest names it, and a fixed reason."""

    row: int
    path: str
    reason: str


Outcome: TypeAlias = Entry | LeftOut


def usable(entries: Iterable[Outcome]) -> Iterator[Outcome]:
    """Entries that can be written down; the first of a key keeps it."""
    seen: set[str] = set()
    for entry in entries:
        if isinstance(entry, LeftOut):
            yield entry._replace(path=entry.path.encode(errors="backslashreplace").decode())
        elif not _is_text(entry):
            yield _left_out(entry, "not UTF-8")
        elif entry.key in seen:
            yield _left_out(entry, "duplicate key")
        else:
            seen.add(entry.key)
            yield entry


def words(captions: Sequence[str], meta: Mapping[str, object]) -> dict[str, str]:
    """As files: captions, one a line, and all else that is known; there stand captions with their line breaks."""
    lines = [" ".join(caption.splitlines()) for caption in captions]
    told = {**meta, "captions": list(captions)} if lines != list(captions) else meta
    text = {"txt": "\n".join(lines)} if lines else {}
    return {**text, "json": json.dumps(told, ensure_ascii=False)}


def _left_out(entry: Entry, reason: str) -> LeftOut:
    path = named(next(iter(entry.names.values())))
    return LeftOut(entry.row, path.encode(errors="backslashreplace").decode(), reason)


def _is_text(entry: Entry) -> bool:
    """Bytes that are no UTF-8 come as lone surrogates, from tables and file names alike."""
    try:
        names = [named(medium) for medium in entry.names.values()]
        json.dumps([entry.key, names, entry.captions, entry.meta], ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def safe_key(name: str) -> str:
    """The name as a member of a tar may have it: relative, inside the tar, and without a dot in its last part.

    webdataset ends a key at the first dot of the last part. Escapes keep different names different.
    """
    parts = [_escaped(part) for part in name.split("/") if part not in ("", ".")]
    parts = [part.replace(".", "%2E") if part == ".." else part for part in parts]
    return "/".join([*parts[:-1], parts[-1].replace(".", "%2E")]) if parts else ""


def _escaped(part: str) -> str:
    return UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", part)
