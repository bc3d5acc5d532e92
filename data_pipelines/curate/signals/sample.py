"""The signals of samples by their ids. Runs in worker processes, so it imports no torch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.captions.reader import CaptionReader
from tercet.data_pipelines.captions.sidecar import MetaReader
from tercet.data_pipelines.curate.parts import table_of
from tercet.data_pipelines.curate.score_group import ScoreColumn
from tercet.data_pipelines.curate.signals import caption, picture, sound
from tercet.data_pipelines.duplicates.prints import WANTED, media
from tercet.data_pipelines.source import Files, Source
from tercet.modality import DECODERS

FAULT = {"fault": ScoreColumn("string", "why a file of the sample cannot be read; null for a good sample")}
COLUMNS = {**FAULT, **picture.COLUMNS, **sound.COLUMNS, **caption.COLUMNS}
MEDIA: Mapping[str, Callable[[bytes], dict[str, object]]] = {
    "image": picture.picture_signals,
    "audio": sound.sound_signals,
}


@dataclass(frozen=True)
class SignalReader:
    """Makes the rows of some samples. The files of plugins have no signals."""

    source: Source
    captions: CaptionReader
    meta: MetaReader

    def __call__(self, ids: Sequence[int]) -> Any:
        found = zip(ids, self.source.read(ids, WANTED | self.captions.wanted), strict=True)
        return table_of(COLUMNS, [self._row(id, files) for id, files in found])

    def _row(self, id: int, files: Files | BadSample) -> dict[str, object]:
        row: dict[str, object] = {"id": id, "key": self.source.key(id)}
        if isinstance(files, BadSample):
            return {**row, "fault": files.reason}
        for modality, signals in MEDIA.items():
            if (data := media(files, modality, DECODERS)) is not None:
                with _noting_fault(row):
                    row |= signals(data)
        with _noting_fault(row):
            if captions := self.captions(files, self.meta(self.source.key(id), files)):
                row |= caption.caption_signals(captions.all)
        return row


@contextmanager
def _noting_fault(row: dict[str, object]) -> Iterator[None]:
    """The first fault of a sample is noted; its other files are measured all the same."""
    try:
        yield
    except BadSample as bad:
        row.setdefault("fault", bad.reason)
