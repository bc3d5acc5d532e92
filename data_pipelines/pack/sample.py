"""One entry of a manifest to the members of one sample: what the worker processes do. Imports no torch."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.manifests.entry import Entry, LeftOut, Outcome
from tercet.data_pipelines.pack.config import PackConfig
from tercet.data_pipelines.pack.picture import pack_picture
from tercet.data_pipelines.pack.sound import pack_sound

LARGEST_FILE = 256 * 2**20  # what a loader reads of a shard, and no more
ORIGIN = "packed_from"  # the key of a sample's `.json` that says which row and which files it was

Members: TypeAlias = dict[str, str | bytes]  # `__key__`, and files by extension


def pack_outcome(config: PackConfig, entry: Outcome) -> Members | LeftOut:
    """A row that was left out before stays so."""
    if isinstance(entry, LeftOut):
        return entry
    members: Members = {"__key__": entry.key}
    for kind, name in entry.names.items():
        try:
            extension, members[extension] = MAKERS[kind](_read(kind, entry.root / name), config)
        except BadSample as error:
            return LeftOut(entry.row, name, error.reason)
    return members | _words(entry, json.loads(members.pop("json", "{}")))


def _words(entry: Entry, told: Mapping[str, object]) -> Members:
    """Captions, one a line, and all else that is known. Captions that had line breaks stand there as they were."""
    meta = {**entry.meta, **told, ORIGIN: {"row": entry.row, **entry.names}}
    lines = [" ".join(caption.splitlines()) for caption in entry.captions]
    if lines != list(entry.captions):
        meta["captions"] = entry.captions
    text: Members = {"txt": "\n".join(lines)} if lines else {}
    return {**text, "json": json.dumps(meta, ensure_ascii=False)}


def _read(kind: str, path: Path) -> bytes:
    if not os.path.isfile(path):  # which knows no path that it could not answer for
        raise BadSample(f"{kind}: missing file")
    if path.stat().st_size > LARGEST_FILE:
        raise BadSample(f"{kind}: over the size cap")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadSample(f"{kind}: unreadable file") from error
    if not data:
        raise BadSample(f"{kind}: empty file")
    return data


def _text(data: bytes, config: PackConfig) -> tuple[str, bytes]:
    try:
        empty = not data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise BadSample("text: not UTF-8") from error
    if empty:
        raise BadSample("text: empty")
    return "txt", data


def _json(data: bytes, config: PackConfig) -> tuple[str, bytes]:
    try:
        meta = json.loads(data)
        json.dumps(meta, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise BadSample("json: unreadable") from error
    if not isinstance(meta, dict):
        raise BadSample("json: not an object")
    return "json", data


MAKERS: Mapping[str, Callable[[bytes, PackConfig], tuple[str, bytes]]] = {
    "image": pack_picture,
    "audio": pack_sound,
    "text": _text,
    "json": _json,
}
