"""Which samples describe the same thing, and are therefore never each other's negatives.

A group is what a key of `.json` says, or equal content: of the picture's or the sound's file, or of the captions.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Protocol

from tercet.data_pipelines.decode.captions import CaptionReader, within
from tercet.data_pipelines.source import Files
from tercet.errors import UserError, did_you_mean
from tercet.modality import FILES

KNOWN = ("json.KEY", "image", "audio", "text")


class Mark(Protocol):
    """What the samples of one group share."""

    @property
    def wanted(self) -> frozenset[str]:
        """Extensions of the files that it looks at."""
        ...

    def needs_meta(self, files: Files) -> bool: ...

    def __call__(self, files: Files, meta: Mapping[str, object]) -> object:
        """The mark of one sample; None: it has none."""
        ...


class GroupReader:
    """Reads a sample's group by `json.KEY`, `image`, `audio` or `text`."""

    def __init__(self, spec: str, captions: CaptionReader) -> None:
        self._mark = _mark(spec, captions)
        self.wanted = self._mark.wanted
        self.needs_meta = self._mark.needs_meta

    def __call__(self, files: Files, meta: Mapping[str, object], id: int) -> int:
        """The group as a number from 0 to 2⁶³ - 1; below zero, a group of the sample's own."""
        mark = self._mark(files, meta)
        if mark is None:
            return -1 - id
        if isinstance(mark, int) and 0 <= mark < 2**63:
            return mark
        content = mark if isinstance(mark, bytes) else str(mark).encode("utf-8", "surrogatepass")
        return int.from_bytes(blake2b(content, digest_size=8).digest(), "big") >> 1


class KeyMark:
    """A key of `.json`: numbers stand for themselves, anything else is hashed."""

    wanted = frozenset({"json"})

    def __init__(self, place: str) -> None:
        self._place = place

    def needs_meta(self, files: Files) -> bool:
        return True

    def __call__(self, files: Files, meta: Mapping[str, object]) -> object:
        return within(meta, self._place)


class FileMark:
    """The bytes of the file that holds a modality."""

    def __init__(self, modality: str) -> None:
        self._extensions = FILES[modality]
        self.wanted = frozenset(self._extensions)

    def needs_meta(self, files: Files) -> bool:
        return False

    def __call__(self, files: Files, meta: Mapping[str, object]) -> object:
        return next((files[extension] for extension in self._extensions if extension in files), None)


class CaptionMark:
    """The captions, cleaned; they are the same in capitals, as to the tokenizers of CLIP."""

    def __init__(self, captions: CaptionReader) -> None:
        self._captions = captions
        self.wanted = captions.wanted
        self.needs_meta = captions.needs_meta

    def __call__(self, files: Files, meta: Mapping[str, object]) -> object:
        captions = self._captions(files, meta)
        return "\n".join(captions.all).casefold() if captions else None


def _mark(spec: str, captions: CaptionReader) -> Mark:
    if spec == "text":
        return CaptionMark(captions)
    if spec in ("image", "audio"):
        return FileMark(spec)
    if spec.startswith("json.") and all(spec.split(".")):
        return KeyMark(spec)
    raise UserError(f"group: `{spec}` is nothing to group by; {did_you_mean(spec, KNOWN)}")
