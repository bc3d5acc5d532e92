"""Which samples describe the same thing, and are therefore never each other's negatives.

A group is the value of a key of `.json`, or equal content: of the file of the picture or sound, or of the captions.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from hashlib import blake2b

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.captions.reader import CaptionReader, within
from tercet.data_pipelines.captions.text import decode_meta
from tercet.data_pipelines.source import Files
from tercet.errors import UserError, did_you_mean
from tercet.modality import FILES

Mark = Callable[
    [Files, Mapping[str, object]], object
]  # the value that the samples of a group share; None without a group


class GroupReader:
    """Reads the group of a sample, by `json.KEY`, `image`, `audio` or `text`, from its `wanted` files."""

    def __init__(self, spec: str, captions: CaptionReader) -> None:
        self.wanted, self._mark = _by(spec, captions)

    def __call__(self, files: Files, meta: Mapping[str, object], id: int) -> int:
        """The group as a number from 0 to 2⁶³ - 1; a negative number is a group of this sample alone."""
        mark = self._mark(files, meta)
        if mark is None:
            return -1 - id
        if isinstance(mark, int) and 0 <= mark < 2**63:
            return mark
        content = mark if isinstance(mark, bytes) else str(mark).encode("utf-8", "surrogatepass")
        return int.from_bytes(blake2b(content, digest_size=8).digest(), "big") >> 1

    def each(self, samples: Iterable[Files | BadSample]) -> Iterator[int]:
        """The group of each sample; -1 for none, or for a sample that cannot be read."""
        return (-1 if isinstance(files, BadSample) else self._one(files) for files in samples)

    def _one(self, files: Files) -> int:
        try:
            return self(files, decode_meta(files["json"]) if "json" in files else {}, 0)
        except BadSample:
            return -1


def _by(spec: str, captions: CaptionReader) -> tuple[frozenset[str], Mark]:
    if spec == "text":
        return captions.wanted, partial(_words, captions)
    if spec in FILES:
        return frozenset(FILES[spec]), partial(_content, FILES[spec])
    if spec.startswith("json.") and all(spec.split(".")):
        return frozenset({"json"}), partial(_named, spec)
    raise UserError(f"group: `{spec}` is unknown; {did_you_mean(spec, ('json.KEY', *FILES))}")


def _words(captions: CaptionReader, files: Files, meta: Mapping[str, object]) -> object:
    """The cleaned captions in lower case, as the tokenizers of CLIP read them."""
    found = captions(files, meta)
    return "\n".join(found.all).casefold() if found else None


def _content(extensions: tuple[str, ...], files: Files, meta: Mapping[str, object]) -> object:
    return next((files[extension] for extension in extensions if extension in files), None)


def _named(place: str, files: Files, meta: Mapping[str, object]) -> object:
    """The value at a place. An empty cell counts as missing: its sample has a group of its own."""
    value = within(meta, place)
    return None if value == "" else value
