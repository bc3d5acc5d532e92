"""Turns an entry of a manifest into the files of a sample, in the worker processes. Imports no torch."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.manifests.contents import modality_of
from tercet.data_pipelines.manifests.entry import Entry, LeftOut, Outcome, text_files
from tercet.data_pipelines.manifests.medium import (
    Medium,
    Span,
    extension_of,
    file_of,
    is_remote,
    named,
    read_file,
    read_span,
    suffix,
)
from tercet.data_pipelines.pack.config import PackConfig
from tercet.data_pipelines.pack.picture import pack_picture
from tercet.data_pipelines.pack.sound import pack_sound
from tercet.data_pipelines.shards.write import SampleFiles
from tercet.modality import DECODERS

ORIGIN = "packed_from"  # the key of a sample's `.json` that says which row and which files it was


def pack_outcome(config: PackConfig, entry: Outcome) -> SampleFiles | LeftOut:
    """The files of a sample; a row that was left out stays left out."""
    if isinstance(entry, LeftOut):
        return entry
    files: SampleFiles = {"__key__": entry.key}
    for kind, medium in entry.names.items():
        try:
            data = _read(kind, entry.root, medium)
            modality = modality_of(kind, named(medium), data)
            if modality in MAKERS and suffix(named(medium)) not in DECODERS:
                extension, data = MAKERS[modality](data, config)
            else:  # the file of a plugin
                extension = extension_of(modality, named(medium))
            files[file_of(kind, extension)] = data
        except BadSample as error:
            return LeftOut(entry.row, named(medium), error.reason)
    return files | _text_files(entry, json.loads(files.pop("json", "{}")))


def _text_files(entry: Entry, beside: Mapping[str, object]) -> SampleFiles:
    """Captions and metadata, with the origin of the sample."""
    origin = {"row": entry.row, **{kind: name for kind, medium in entry.names.items() if (name := named(medium))}}
    return dict(text_files(entry.captions, {**entry.meta, **beside, ORIGIN: origin}))


def _read(kind: str, root: Path, medium: Medium) -> bytes:
    if isinstance(medium, bytes):
        return medium
    if isinstance(medium, Span):
        return read_span(kind, replace(medium, file=str(root / medium.file)))
    if is_remote(medium):
        raise BadSample(f"{kind}: a URL and not a path")
    return read_file(kind, root / medium)


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
