"""The text that pictures show, and how much of their captions it repeats: the group `words_in_image`.

A model that learns from pictures that show their captions learns to read, and not to see; DiHT (Radenovic et al. 2023)
drops such pairs. rapidocr-onnxruntime finds and reads the text, in Chinese and Latin letters. Its package has its
models, so nothing is downloaded.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.captions.reader import CaptionReader
from tercet.data_pipelines.captions.sidecar import MetaReader
from tercet.data_pipelines.config import SplitConfig
from tercet.data_pipelines.curate.parts import table_of, write_parts
from tercet.data_pipelines.curate.score_group import ScoreColumn, ScoreGroup
from tercet.data_pipelines.decode.media import UNREADABLE, open_picture
from tercet.data_pipelines.decode.still import rgb
from tercet.data_pipelines.duplicates.prints import WANTED, media
from tercet.data_pipelines.source import Files, Source
from tercet.data_pipelines.survey.wording import words
from tercet.errors import UserError
from tercet.modality import DECODERS

if TYPE_CHECKING:  # worker processes import no torch
    from tercet.data_pipelines.curate.score_task import ScoreTask

WORDS_IN_IMAGE = "words_in_image"
PACKAGE = "rapidocr_onnxruntime"
LONGEST = 1280  # pixels of the longer side; larger pictures are shrunk
SURE = 0.5  # confidence of a line

COLUMNS = {
    "words_in_image": ScoreColumn("string", "the text that the picture shows, line by line; empty if it shows none"),
    "words": ScoreColumn("int32", "number of its words"),
    "overlap": ScoreColumn(
        "float32", "share of the caption's different words that the picture shows; null without any"
    ),
}

Lines: TypeAlias = list[tuple[str, float]]  # each with its confidence
Reader: TypeAlias = Callable[[NDArray[np.uint8]], Lines]


def score_words_in_image(task: "ScoreTask", split: SplitConfig, workers: int) -> ScoreGroup:
    """A collective."""
    check_reader()
    request = {"by": WORDS_IN_IMAGE, "captions": split.captions, "sidecar": split.sidecar}
    found = task.begin(request, COLUMNS)
    reader = WordsInImage(task.source, CaptionReader(split.captions), MetaReader(split.sidecar))
    write_parts(found, task.name, reader, workers, "reading text in pictures", task.world)
    return task.finish(found)


@dataclass(frozen=True)
class WordsInImage:
    """Makes the rows of the samples that have a picture."""

    source: Source
    captions: CaptionReader
    meta: MetaReader

    def __call__(self, ids: Sequence[int]) -> Any:
        rows = []
        for id, files in zip(ids, self.source.read(ids, WANTED | self.captions.wanted), strict=True):
            try:
                if not isinstance(files, BadSample) and (data := media(files, "image", DECODERS)) is not None:
                    rows.append({"id": id, "key": self.source.key(id), **self._row(id, data, files)})
            except BadSample:
                continue
        return table_of(COLUMNS, rows)

    def _row(self, id: int, data: bytes, files: Files) -> dict[str, object]:
        lines = [text.strip() for text, confidence in open_reader()(_pixels(data)) if confidence >= SURE]
        shown = [word for line in lines for word in words(line)]
        found = self.captions(files, self.meta(self.source.key(id), files))
        own = set(words(found.all[0])) if found else set()
        overlap = len(own & set(shown)) / len(own) if own else None
        return {"words_in_image": "\n".join(lines), "words": len(shown), "overlap": overlap}


def check_reader() -> None:
    if find_spec(PACKAGE) is None:
        raise UserError("words_in_image needs rapidocr-onnxruntime; pip install 'tercet[ocr]'")


@cache
def open_reader() -> Reader:
    """Reads the lines of text in a picture. Loads its models once in a process, for one core."""
    from rapidocr_onnxruntime import RapidOCR

    engine: Any = RapidOCR(intra_op_num_threads=1, inter_op_num_threads=1)

    def read(pixels_HWC: NDArray[np.uint8]) -> Lines:
        found, _ = engine(np.ascontiguousarray(pixels_HWC[:, :, ::-1]))  # which takes blue first
        return [(str(text), float(confidence)) for _, text, confidence in found or ()]

    return read


def _pixels(data: bytes) -> NDArray[np.uint8]:
    picture = open_picture(data)
    try:
        whole = rgb(picture)
    except UNREADABLE as error:
        raise BadSample("image: truncated or damaged") from error
    whole.thumbnail((LONGEST, LONGEST), Image.Resampling.BOX)
    return np.asarray(whole)
