"""What the cells of a column hold: pictures, sounds, or words, judged by the first rows of a table, and JSON."""

import json
import os
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import PurePath

from tercet.data_pipelines.further_files import PLACE
from tercet.data_pipelines.manifests.medium import Span, is_remote, medium_of
from tercet.data_pipelines.shards.address import redacted
from tercet.modality import FILES

BEGINNING = 16  # bytes that tell what a file is
FRAMES = {b"RIFF": {b"WEBP": "image", b"WAVE": "audio"}, b"FORM": {b"AIFF": "audio", b"AIFC": "audio"}}
SIGNATURES = {
    b"\xff\xd8\xff": "image", b"\x89PNG": "image", b"GIF8": "image",
    b"BM": "image", b"II*\0": "image", b"MM\0*": "image",
    b"fLaC": "audio", b"OggS": "audio", b"ID3": "audio", b"RF64": "audio", b"\xff\xfb": "audio", b"\xff\xf3": "audio",
}  # fmt: skip
UNSURE = frozenset(("id", "is", "no"))  # usual names of columns that hold something else


def medium_in(cells: Iterable[object], folder: str) -> str | None:
    """The modality of the files that most cells name or hold; paths of spans begin in `folder`."""
    found = Counter(_medium(cell, folder) for cell in cells if cell not in (None, ""))
    modality, count = next(iter(found.most_common(1)), (None, 0))
    return modality if 2 * count > found.total() else None


def has_words(cells: Iterable[object]) -> bool:
    """Whether most cells are words: neither numbers, nor names of files, nor codes."""
    present = [cell for cell in cells if cell not in (None, "")]
    return 2 * sum(map(_is_words, present)) > len(present)


def value_in(cell: object) -> object:
    """The list or the object in a cell that holds one as JSON or as a map of Arrow, or else the cell."""
    if isinstance(cell, list) and cell and all(isinstance(one, tuple) for one in cell):
        return dict(cell)
    if not (isinstance(cell, str) and cell.lstrip().startswith(("[", "{"))):
        return cell
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return cell


def modality_of(kind: str, name: str, data: bytes) -> str:
    """The modality of a medium of this kind. That of a further one follows from its name, or else from its bytes."""
    return (_named(name) or _signed(data) or "image") if kind.startswith(PLACE) else kind


def _medium(cell: object, folder: str) -> str | None:
    medium = medium_of(cell)
    if isinstance(medium, Span):
        with suppress(OSError), open(os.path.join(folder, medium.file), "rb") as file:
            file.seek(medium.offset)
            return _signed(file.read(min(medium.size, BEGINNING)))
        return None
    return _signed(medium) if isinstance(medium, bytes) else _named(medium)


def _named(path: str) -> str | None:
    extension = PurePath(redacted(path)).suffix[1:].lower()
    return next((modality for modality in ("image", "audio") if extension in FILES[modality]), None)


def _signed(data: bytes) -> str | None:
    if data[:4] in FRAMES:
        return FRAMES[data[:4]].get(data[8:12])
    if data[4:8] == b"ftyp":
        return "image" if data[8:12] in (b"avif", b"avis") else None
    return next((modality for signature, modality in SIGNATURES.items() if data.startswith(signature)), None)


def _is_words(cell: object) -> bool:
    if not isinstance(cell, str) or _named(cell):
        return False
    return any(map(str.isalpha, cell)) and not any(sign in cell.strip() for sign in "/\\_") and not is_remote(cell)
