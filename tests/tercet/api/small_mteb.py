"""Small tasks of MTEB that are built in memory, from pictures of boats and cars, their captions, and tones."""

from io import BytesIO
from typing import Any, ClassVar

import numpy as np
import soundfile
from datasets import Audio, Dataset, DatasetDict
from mteb.abstasks import (
    AbsTask,
    AbsTaskClassification,
    AbsTaskImageTextPairClassification,
    AbsTaskRetrieval,
    AbsTaskSTS,
    AbsTaskZeroShotClassification,
)
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.abstasks.task_metadata import TaskMetadata
from numpy.typing import NDArray
from PIL import Image

from tests.tercet.api.boats import captioned, pixels

COUNT = 12
RATE = 11025  # not that of the model
CLASSES = ("a red boat", "a blue car")


def about(name: str, kind: str, score: str, category: str, modalities: list[str]) -> TaskMetadata:
    known: dict[str, Any] = {
        "name": name, "type": kind, "main_score": score, "category": category, "modalities": modalities,
        "description": "small", "reference": None, "dataset": {"path": "none", "revision": "none"},
        "eval_splits": ["test"], "eval_langs": ["eng-Latn"], "date": None, "dialect": None, "domains": None,
        "task_subtypes": None, "license": None, "annotations_creators": None, "sample_creation": None,
        "bibtex_citation": None,
    }  # fmt: skip
    return TaskMetadata(**known)


def pictures() -> list[Image.Image]:
    return [Image.fromarray(pixels(number)) for number in range(COUNT)]


def captions() -> list[str]:
    return [captioned(number) for number in range(COUNT)]


def tone(number: int) -> NDArray[np.float32]:
    """The last ones are longer than the model's window."""
    length = RATE // 4 * (1 + number % 5)
    return np.sin(np.arange(length) * (number + 1) / 40, dtype=np.float32)


def tone_file(number: int) -> bytes:
    written = BytesIO()
    soundfile.write(written, tone(number), RATE, format="WAV", subtype="FLOAT")
    return written.getvalue()


def sounds() -> list[dict[str, Any]]:
    return [{"bytes": tone_file(number), "path": None} for number in range(COUNT)]


class Retrieval(AbsTaskRetrieval):
    """The n-th document answers the n-th query. One that has more than a text of a modality has the sum."""

    queries: ClassVar[dict[str, list[Any]]]
    documents: ClassVar[dict[str, list[Any]]]

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        corpus = Dataset.from_dict({"id": [f"d{n}" for n in range(COUNT)], **self.documents})
        if "audio" in self.documents:
            corpus = corpus.cast_column("audio", Audio())
        asked = Dataset.from_dict({"id": [f"q{n}" for n in range(COUNT)], **self.queries})
        right = {f"q{n}": {f"d{n}": 1} for n in range(COUNT)}
        self.dataset = {
            "default": {"test": RetrievalSplitData(corpus=corpus, queries=asked, relevant_docs=right, top_ranked=None)}
        }
        self.data_loaded = True


class PicturesOfCaptions(Retrieval):
    metadata = about("PicturesOfCaptions", "Any2AnyRetrieval", "ndcg_at_10", "t2i", ["text", "image"])
    queries: ClassVar[dict[str, list[Any]]] = {"text": captions()}
    documents: ClassVar[dict[str, list[Any]]] = {"image": pictures()}


class SoundsOfCaptions(Retrieval):
    metadata = about("SoundsOfCaptions", "Any2AnyRetrieval", "hit_rate_at_5", "t2a", ["text", "audio"])
    queries: ClassVar[dict[str, list[Any]]] = {"text": captions()}
    documents: ClassVar[dict[str, list[Any]]] = {"audio": sounds()}


class BothOfPictures(Retrieval):
    metadata = about("BothOfPictures", "Any2AnyRetrieval", "ndcg_at_10", "i2it", ["text", "image"])
    queries: ClassVar[dict[str, list[Any]]] = {"image": pictures()[::-1]}
    documents: ClassVar[dict[str, list[Any]]] = {"image": pictures(), "text": captions()}


class Pictures(AbsTaskClassification):
    """Each class has as many training pictures as MTEB draws, so that every experiment has all of them."""

    metadata = about("Pictures", "ImageClassification", "accuracy", "i2c", ["image"])
    input_column_name = "image"
    samples_per_label = 4
    n_experiments = 2

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        labels = [number % 2 for number in range(COUNT)]
        train = Dataset.from_dict({"image": pictures()[:8], "label": labels[:8]})
        test = Dataset.from_dict({"image": pictures()[8:], "label": [0, 1, 1, 1]})
        self.dataset = DatasetDict({"train": train, "test": test})  # type: ignore[assignment]
        self.data_loaded = True


class ZeroShot(AbsTaskZeroShotClassification):
    metadata = about("ZeroShot", "ZeroShotClassification", "accuracy", "i2t", ["image", "text"])

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        labels = [number % 2 for number in range(COUNT)]
        self.dataset = DatasetDict({"test": Dataset.from_dict({"image": pictures(), "label": labels})})  # type: ignore[assignment]
        self.data_loaded = True

    def get_candidate_labels(self) -> list[str]:
        return list(CLASSES)


class Similarity(AbsTaskSTS):
    metadata = about("Similarity", "STS", "cosine_spearman", "t2t", ["text"])

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        graded = {"sentence1": captions(), "sentence2": captions()[::-1], "score": [float(n % 5) for n in range(COUNT)]}
        self.dataset = DatasetDict({"test": Dataset.from_dict(graded)})  # type: ignore[assignment]
        self.data_loaded = True


class Pairs(AbsTaskImageTextPairClassification):
    """Two pictures and two captions each, as in Winoground."""

    metadata = about("Pairs", "Compositionality", "accuracy", "i2t", ["image", "text"])
    images_column_names = ("first", "second")
    texts_column_names = ("caption", "other")

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        both, texts = pictures(), captions()
        rows = {"first": both[::2], "second": both[1::2], "caption": texts[::2], "other": texts[1::2]}
        self.dataset = DatasetDict({"test": Dataset.from_dict(rows)})  # type: ignore[assignment]
        self.data_loaded = True


class Films(AbsTaskZeroShotClassification):
    """No model of tercet encodes video."""

    metadata = about("Films", "VideoZeroshotClassification", "accuracy", "v2t", ["video", "text"])


class Unreachable(AbsTaskSTS):
    metadata = about("Unreachable", "STS", "cosine_spearman", "t2t", ["text"])

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        raise ConnectionError("no network\nand more about it")


def every_task() -> list[AbsTask]:
    kinds = (PicturesOfCaptions, SoundsOfCaptions, BothOfPictures, Pictures, ZeroShot, Similarity, Pairs)
    return [kind() for kind in kinds]
