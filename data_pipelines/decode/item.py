"""One sample's files to a `Sample`, with the modalities that the run takes in."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tercet.data_pipelines.bad_samples import BadSample, Fault
from tercet.data_pipelines.decode.audio import decode_audio
from tercet.data_pipelines.decode.image import decode_image
from tercet.data_pipelines.decode.text import decode_captions, decode_meta, group_of, negatives_of
from tercet.data_pipelines.sample import MODALITIES, AudioIntake, ImageIntake, Intake, Sample, TextIntake
from tercet.data_pipelines.shards.read import Shards
from tercet.data_pipelines.transforms.crop import CentreView, View
from tercet.errors import UserError, did_you_mean

FILES: Mapping[type, tuple[str, ...]] = {
    ImageIntake: ("png", "jpg", "jpeg", "webp"),
    AudioIntake: ("flac", "wav", "ogg", "mp3", "opus"),
    TextIntake: ("txt",),
}


def checked(intakes: Mapping[str, Intake]) -> Mapping[str, Intake]:
    """The intakes, if shards can fill every one of their fields."""
    for name in intakes:
        if name not in MODALITIES:
            raise UserError(f"no file of a shard fills the field `{name}`; {did_you_mean(name, MODALITIES)}")
    return intakes


class Decoder:
    """Reads and decodes samples by id. A modality that a sample lacks is absent; a broken one spoils it."""

    def __init__(self, source: Shards, intakes: Mapping[str, Intake]) -> None:
        self.source = source
        self.intakes = tuple(intakes.values())
        self.wanted = {"json", *(extension for intake in self.intakes for extension in FILES[type(intake)])}

    def __call__(self, id: int, view: View) -> Sample:
        files = self.source.read(id, self.wanted)
        meta = decode_meta(files["json"]) if "json" in files else {}
        fields: dict[str, Any] = {}
        for intake in self.intakes:
            data = next((files[extension] for extension in FILES[type(intake)] if extension in files), None)
            if data is not None:
                fields.update(_decoded(data, intake, view))
        if not fields:
            raise BadSample("none of the run's modalities")
        return Sample(
            key=self.source.index.key(id),
            id=id,
            group=group_of(meta, id),
            negatives=negatives_of(meta),
            meta=meta,
            **fields,
        )

    def fault(self, id: int, reason: str) -> Fault:
        index = self.source.index
        return Fault(shard=str(index.shard(id)), key=index.key(id), id=id, reason=reason)


class Keeper:
    """Decodes each sample once, whole, and keeps it: for data that fit into memory, and uncropped pictures."""

    def __init__(self, decode: Decoder) -> None:
        self.fault = decode.fault
        self._decode = decode
        self._window = next((intake.window for intake in decode.intakes if isinstance(intake, AudioIntake)), 0)
        self._kept: dict[int, Sample] = {}

    def __call__(self, id: int, view: View) -> Sample:
        if id not in self._kept:
            self._kept[id] = self._decode(id, CentreView())
        sample = self._kept[id]
        audio = sample.audio
        if audio is not None:
            audio = audio[slice(*view.span(len(audio), self._window))]
        return replace(sample, audio=audio, text=view.captions(sample.text))


def _decoded(data: bytes, intake: Intake, view: View) -> dict[str, object]:
    if isinstance(intake, ImageIntake):
        return {"image": decode_image(data, intake, view)}
    if isinstance(intake, AudioIntake):
        return {"audio": decode_audio(data, intake, view)}
    return {"text": view.captions(decode_captions(data))}
