"""Measures each sample by its headers, and some of the sounds by all of their frames."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.captions.groups import GroupReader
from tercet.data_pipelines.captions.reader import CaptionReader
from tercet.data_pipelines.captions.text import decode_meta
from tercet.data_pipelines.decode.media import open_picture, open_sound, waves
from tercet.data_pipelines.shards.index import kind_of
from tercet.data_pipelines.source import Files, Source
from tercet.data_pipelines.survey.content import content_hash
from tercet.data_pipelines.survey.language import knows_languages, language, script
from tercet.data_pipelines.survey.sketch import marks
from tercet.data_pipelines.survey.tally import Tally
from tercet.data_pipelines.survey.wording import words
from tercet.modality import DECODERS, EXTENSIONS, FILES

CAPTIONS = CaptionReader({})
GROUP = GroupReader("json.group", CAPTIONS)


@dataclass
class SurveyPart:
    """Statistics of some samples, and hashes to find equal ones elsewhere."""

    tally: Tally = field(default_factory=Tally)
    hashes: dict[str, tuple[list[int], list[int]]] = field(default_factory=dict)  # of what: hashes, samples' ids

    def hash(self, name: str, content: bytes, id: int) -> None:
        hashes, ids = self.hashes.setdefault(name, ([], []))
        hashes.append(content_hash(content))
        ids.append(id)


@dataclass(frozen=True)
class Surveyor:
    """Sounds whose mark is below `heard`, a share of 2⁶⁴, are decoded to measure their loudness."""

    source: Source
    heard: int

    def __call__(self, ids: Sequence[int]) -> SurveyPart:
        part = SurveyPart()
        part.tally.samples = len(ids)
        for id, mark, files in zip(ids, marks(ids).tolist(), self.source.read(ids, EXTENSIONS), strict=True):
            with _counting_bad(part.tally):
                self._survey(part, files, id, mark)
        return part

    def _survey(self, part: SurveyPart, files: Files | BadSample, id: int, mark: int) -> None:
        if isinstance(files, BadSample):
            raise files
        part.tally.count("holds", *sorted(set(map(kind_of, files))))
        for extension, data in files.items():
            part.tally.count("files", extension)
            with _counting_bad(part.tally):
                if extension in DECODERS:
                    continue  # the file of a plugin
                if extension in FILES["image"]:
                    _picture(part, data, id)
                elif extension in FILES["audio"]:
                    _sound(part, data, id, heard=mark < self.heard)
        _captions(part, files, id, mark)


@contextmanager
def _counting_bad(tally: Tally) -> Iterator[None]:
    """Counts a bad sample by its reason."""
    try:
        yield
    except BadSample as bad:
        tally.count("bad", bad.reason)


def _picture(part: SurveyPart, data: bytes, id: int) -> None:
    picture, tally = open_picture(data), part.tally
    width, height = picture.size
    tally.measure("image.shorter", min(width, height))
    tally.measure("image.aspect", width / height)
    tally.measure("image.bytes", len(data))
    tally.count("image.size", f"{width} × {height}")
    tally.count("image.format", f"{picture.format} {picture.mode}")
    part.hash("image", data, id)


def _sound(part: SurveyPart, data: bytes, id: int, heard: bool) -> None:
    tally = part.tally
    with open_sound(data) as sound:
        tally.measure("audio.seconds", sound.frames / sound.samplerate)
        tally.measure("audio.bytes", len(data))
        tally.count("audio.rate", f"{sound.samplerate / 1000:g} kHz")
        tally.count("audio.channels", {1: "mono", 2: "stereo"}.get(sound.channels, f"{sound.channels} channels"))
        tally.count("audio.format", f"{sound.format} {sound.subtype}")
        part.hash("audio", data, id)
        if heard:
            power = sum(float(np.square(wave, dtype=np.float64).sum()) for wave in waves(sound))
            tally.measure("audio.loudness", (power / sound.frames / sound.channels) ** 0.5)


def _captions(part: SurveyPart, files: Files, id: int, mark: int) -> None:
    meta = decode_meta(files["json"]) if "json" in files else {}
    if meta:
        part.tally.count("json", *_keys(meta))
    group = GROUP(files, meta, id)
    if group >= 0:
        part.hash("group", str(group).encode(), id)
    found = CAPTIONS(files, meta)
    captions = found.all if found else ()
    for caption in captions:
        _caption(part.tally, caption)
        part.hash("text", caption.encode("utf-8", "surrogatepass"), id)
    if captions:
        part.tally.measure("text.captions", len(captions))
        part.tally.captions.offer(mark, id, captions[mark % len(captions)])


def _keys(meta: Mapping[str, object]) -> Iterator[str]:
    """The keys that have a value, as a recipe names them after `json.`; those of a mapping one by one."""
    for key, value in meta.items():
        if isinstance(value, Mapping):
            yield from (f"{key}.{inner}" for inner in value)
        elif value not in (None, "", []):
            yield key


def _caption(tally: Tally, caption: str) -> None:
    found = words(caption)
    tally.measure("text.words", len(found))
    tally.measure("text.characters", len(caption))
    tally.count("text.word", *set(found))
    tally.count("text.caption", caption)
    tally.count("text.script", script(caption))
    if knows_languages():
        tally.count("text.language", language(caption))
