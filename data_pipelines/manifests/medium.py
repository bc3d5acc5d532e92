"""A picture or a sound in a manifest: a path, a URL, bytes, or a span of bytes in a larger file.

Paths are relative to the folder of the manifest, or absolute. Only plain files are opened, and nothing runs through a
shell.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import urljoin

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.further_files import PLACE
from tercet.data_pipelines.source import LARGEST_FILE
from tercet.modality import FILES


@dataclass(frozen=True)
class Span:
    """Bytes within a file."""

    file: str
    offset: int
    size: int


Medium: TypeAlias = str | bytes | Span


def medium_of(cell: object) -> Medium:
    """The medium in a cell. Cells of Hugging Face have `bytes`, a `path`, or both; other cells are empty."""
    if isinstance(cell, Mapping):
        cell = cell.get("bytes") or cell.get("path")
    return cell if isinstance(cell, str | bytes | Span) else ""


def named(medium: Medium) -> str:
    """Its path or URL; bytes have none."""
    return medium if isinstance(medium, str) else ""


def is_remote(name: str) -> bool:
    return "://" in name


def located(root: str, name: str) -> str:
    """The path or URL of a name in a manifest in the folder `root`, which may be remote itself."""
    if is_remote(name):
        return name
    return urljoin(f"{root}/", name) if is_remote(root) else os.path.join(root, name)


def further_kind(name: str, number: int) -> str:
    """The kind of a further picture or sound: its name, and its place in the list of those with this name."""
    return f"{PLACE}{name}.{number}"


def file_of(kind: str, extension: str) -> str:
    """What a medium is called among the files of a sample: its extension, after name and number of a further one."""
    return f"{kind.removeprefix(PLACE)}.{extension}" if kind.startswith(PLACE) else extension


def extension_of(kind: str, name: str) -> str:
    """An extension of the modality for it. Decoders judge by content, so any will do for a medium without a name."""
    return own if (own := suffix(name)) in FILES[kind] else FILES[kind][0]


def suffix(name: str) -> str:
    return name.rpartition(".")[2].lower()


def read_file(kind: str, path: str | os.PathLike[str]) -> bytes:
    if not os.path.isfile(path):  # which raises for no path
        raise BadSample(f"{kind}: missing file")
    try:
        with open(path, "rb", buffering=0) as file:
            small = os.fstat(file.fileno()).st_size <= LARGEST_FILE
            data = file.readall() if small else b""
    except OSError as error:
        raise BadSample(f"{kind}: unreadable file") from error
    if not small:
        raise BadSample(f"{kind}: over the size cap")
    if not data:
        raise BadSample(f"{kind}: empty file")
    return data


def read_span(kind: str, span: Span) -> bytes:
    if span.size > LARGEST_FILE:
        raise BadSample(f"{kind}: over the size cap")
    try:
        with open(span.file, "rb", buffering=0) as file:
            file.seek(span.offset)
            data = file.read(span.size)
    except OSError as error:
        raise BadSample(f"{kind}: unreadable file") from error
    if len(data) < span.size:
        raise BadSample(f"{kind}: its file is shorter than it was")
    return data
