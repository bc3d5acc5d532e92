"""The fingerprint of a sample, which shows whether another one is the same: hashes of pixels and waves."""

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from unicodedata import category, normalize

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.captions.reader import CaptionReader
from tercet.data_pipelines.captions.text import decode_meta
from tercet.data_pipelines.duplicates import picture, sound
from tercet.data_pipelines.source import Files, Source
from tercet.data_pipelines.survey.content import content_hash
from tercet.modality import DECODERS, FILES

WANTED = frozenset({"txt", "json", *FILES["image"], *FILES["audio"]})


@dataclass(frozen=True)
class Print:
    """Of one sample: hashes of its files, of its captions, and of what they look and sound like."""

    id: int
    exact: Mapping[str, int]  # by modality
    captions: frozenset[int]
    looks: tuple[picture.Hashes, picture.Hashes] | None
    heard: sound.Heard | None


class Printer:
    """Makes the fingerprints of samples by id. A file that cannot be decoded has only a hash of its bytes."""

    def __init__(self, source: Source, captions: Mapping[str, float] | None = None) -> None:
        self.source = source
        self._captions = CaptionReader(captions or {})

    def __call__(self, ids: Sequence[int]) -> tuple[list[Print], Counter[str]]:
        """The prints, and how many samples could not be used, by reason."""
        bad: Counter[str] = Counter()
        found = zip(ids, self.source.read(ids, WANTED), strict=True)
        return [self._print(id, files, bad) for id, files in found], bad

    def _print(self, id: int, files: Files | BadSample, bad: Counter[str]) -> Print:
        if isinstance(files, BadSample):
            bad[files.reason] += 1
            files = {}
        image, audio = (media(files, modality) for modality in ("image", "audio"))
        exact = {name: content_hash(data) for name, data in (("image", image), ("audio", audio)) if data is not None}
        looks = heard = None
        captions: frozenset[int] = frozenset()
        try:
            captions = self._worded(files)
            image, audio = (media(files, modality, DECODERS) for modality in ("image", "audio"))
            looks = None if image is None else picture.hashes(picture.look(image))
            heard = None if audio is None else sound.heard(audio)
        except BadSample as spoilt:
            bad[spoilt.reason] += 1
        return Print(id, exact, captions, looks, heard)

    def _worded(self, files: Files) -> frozenset[int]:
        captions = self._captions(files, decode_meta(files["json"]) if "json" in files else {})
        texts = map(normalised, captions.all if captions else ())
        return frozenset(content_hash(caption.encode()) for caption in texts if caption)


def media(files: Files, modality: str, closed: Container[str] = ()) -> bytes | None:
    """The file of a modality, unless of a `closed` extension: how those look or sound a plugin alone knows."""
    known = (extension for extension in FILES[modality] if extension in files and extension not in closed)
    return next((files[extension] for extension in known), None)


def normalised(caption: str) -> str:
    """Without capitals, marks, and what is written in more than one way."""
    folded = normalize("NFKC", caption).casefold()
    plain = "".join(" " if category(character)[0] in "PSZC" else character for character in folded)
    return " ".join(plain.split())
