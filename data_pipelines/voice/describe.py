"""Measures the voices of a dataset, and writes captions of them into a sidecar."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.captions.reader import within
from tercet.data_pipelines.captions.sidecar import KEY, Row, write_rows
from tercet.data_pipelines.captions.text import decode_meta
from tercet.data_pipelines.decode.audio import decode_audio
from tercet.data_pipelines.manifests.reading import Reading
from tercet.data_pipelines.sample import AudioIntake
from tercet.data_pipelines.seeding import keyed
from tercet.data_pipelines.source import Files, Source
from tercet.data_pipelines.sources.open import open_source
from tercet.data_pipelines.survey.walk import parts_of, walk
from tercet.data_pipelines.transforms.crop import CentreView
from tercet.data_pipelines.voice.captions import captions_of, in_words, limits_of
from tercet.data_pipelines.voice.config import VoicesConfig
from tercet.data_pipelines.voice.measure import RATE, measure
from tercet.errors import UserError
from tercet.modality import FILES

LONGEST = 60.0  # seconds of a sound that are measured
VALUES, CAPTIONS = "voice", "voice_captions"  # keys of the sidecar


class Beginning(CentreView):
    """The first part of a long sound."""

    def span(self, frames: int, window: int) -> tuple[int, int]:
        return 0, min(frames, window)


@dataclass(frozen=True)
class Measured:
    """A sample's key, the features of its voice, and the values of its labels."""

    key: str
    voice: Mapping[str, float]
    labels: Mapping[str, object]


@dataclass(frozen=True)
class VoiceReader:
    """Measures some samples. A sample without a sound, or with a broken one, is None."""

    source: Source
    labels: tuple[str, ...]

    def __call__(self, ids: Sequence[int]) -> list[Measured | None]:
        wanted = frozenset({"json", *FILES["audio"]})
        return [self._one(id, files) for id, files in zip(ids, self.source.read(ids, wanted), strict=True)]

    def _one(self, id: int, files: Files | BadSample) -> Measured | None:
        if isinstance(files, BadSample):
            return None
        data = next((files[extension] for extension in FILES["audio"] if extension in files), None)
        if data is None:
            return None
        try:
            wave_T = decode_audio(data, AudioIntake(RATE, LONGEST), Beginning())
            meta = decode_meta(files["json"]) if "json" in files else {}
        except BadSample:
            return None
        found = {label: within(meta, f"json.{label}") for label in self.labels}
        labels = {label: value for label, value in found.items() if isinstance(value, str | int) and value != ""}
        return Measured(self.source.key(id), measure(wave_T), labels)


@dataclass(frozen=True)
class Described:
    """How many lines were written, and how many samples have no sound that can be read."""

    rows: int
    without: int


def describe(data: str, reading: Reading, config: VoicesConfig, out: Path, workers: int) -> Described:
    source = open_source(data, reading=reading)
    reader, parts = VoiceReader(source, config.labels), parts_of(range(len(source)))
    found = [one for part in walk(reader, parts, workers, "measuring voices") for one in part]
    measured = [one for one in found if one is not None]
    if not measured:
        raise UserError(f"{data} has no sound that can be read; name data with sounds")
    return Described(write_rows(out, _rows(measured, config)), len(found) - len(measured))


def _rows(measured: Sequence[Measured], config: VoicesConfig) -> Iterator[Row]:
    limits = limits_of([one.voice for one in measured])
    for one in measured:
        dice = keyed(f"voice {one.key}", config.seed)
        captions = captions_of(in_words(one.voice, limits), one.labels, config.count, dice)
        yield {KEY: one.key, VALUES: dict(one.voice), CAPTIONS: captions}
