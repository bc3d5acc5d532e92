"""The fingerprints of samples as rows of a table, which worker processes make."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tercet.data_pipelines.curate.parts import table_of
from tercet.data_pipelines.curate.score_group import ScoreColumn
from tercet.data_pipelines.duplicates.prints import Print, Printer
from tercet.data_pipelines.survey.content import content_hash

COLUMNS = {
    "image": ScoreColumn("uint64", "hash of the picture's file"),
    "audio": ScoreColumn("uint64", "hash of the sound's file"),
    "text": ScoreColumn("uint64", "hash of all captions, without capitals and marks"),
    "looks": ScoreColumn("binary", "pHash and dHash of each view of the picture"),
    "shape": ScoreColumn("uint64", "pHash of the sound's spectrogram"),
    "words": ScoreColumn("binary", "fingerprint of the first moments of the sound"),
}
MOMENTS = 256  # of a sound: 4 seconds


@dataclass(frozen=True)
class PrintReader:
    printer: Printer

    def __call__(self, ids: Sequence[int]) -> Any:
        prints, _ = self.printer(ids)
        return table_of(COLUMNS, [row for row in map(self._row, prints) if len(row) > 2])

    def _row(self, one: Print) -> dict[str, object]:
        row: dict[str, object] = {"id": one.id, "key": self.printer.source.key(one.id), **one.exact}
        if one.captions:
            row["text"] = content_hash(np.sort(np.array(list(one.captions), dtype=np.uint64)).tobytes())
        if one.looks is not None:
            row["looks"] = np.concatenate(one.looks).tobytes()
        if one.heard is not None and one.heard.shape is not None:
            row |= {"shape": one.heard.shape, "words": one.heard.words[:MOMENTS].tobytes()}
        return row
