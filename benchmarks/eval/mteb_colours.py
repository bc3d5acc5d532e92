"""The colours as a task of MTEB: each caption looks for its picture."""

from typing import Any

import mteb
from datasets import Dataset  # type: ignore[import-untyped]
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.abstasks.task_metadata import TaskMetadata

from tercet.api.mteb_model import mteb_model
from tercet.benchmarks.eval.colours import Colours

ABOUT: dict[str, Any] = {
    "name": "PicturesOfCaptions", "type": "Any2AnyRetrieval", "main_score": "ndcg_at_10", "category": "t2i",
    "modalities": ["text", "image"], "description": "colours", "dataset": {"path": "none", "revision": "none"},
    "eval_splits": ["test"], "eval_langs": ["eng-Latn"],
    **dict.fromkeys((
        "reference", "date", "dialect", "domains", "task_subtypes", "license", "annotations_creators",
        "sample_creation", "bibtex_citation",
    )),
}  # fmt: skip


class PicturesOfCaptions(AbsTaskRetrieval):
    metadata = TaskMetadata(**ABOUT)

    def __init__(self, data: Colours) -> None:
        super().__init__()
        texts = [text for pair in data.captions for text in pair]
        queries = Dataset.from_dict({"id": [f"q{n}" for n in range(len(texts))], "text": texts})
        corpus = Dataset.from_dict({"id": [f"d{n}" for n in range(data.count)], "image": data.pictures})
        right = {f"q{n}": {f"d{n // 2}": 1} for n in range(len(texts))}
        split = RetrievalSplitData(corpus=corpus, queries=queries, relevant_docs=right, top_ranked=None)
        self.dataset = {"default": {"test": split}}
        self.data_loaded = True


def scores_of(data: Colours) -> dict[str, float]:
    encoder = mteb_model(data.model)
    (found,) = mteb.evaluate(encoder, PicturesOfCaptions(data), cache=None, show_progress_bar=False).task_results
    return dict(found.scores["test"][0])
