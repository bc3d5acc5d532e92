"""Retrieval of documents that are sums of parts, beside a loop over samples."""

from dataclasses import replace
from zlib import crc32

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.data_pipelines.sample import Sample
from tercet.errors import UserError
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable
from tercet.eval.load_tasks import load_task, load_tasks
from tercet.eval.retrieval.combined import CombinedRetrievalTask

SAMPLES, DIM, NO_PICTURE, NO_TITLE = 30, 4, (3, 4, 5), (5, 6)
TASK = CombinedRetrievalTask(
    kind="combined_retrieval",
    name="mine",
    title="Mine",
    query={"text": 2.0},
    document={"image": 0.4, "json.title": 0.6},
)


def vector(word: str) -> Tensor:
    return normalize(torch.from_numpy(np.random.default_rng(crc32(word.encode())).normal(size=DIM)).float(), dim=0)


def embed_text(texts: list[str]) -> Tensor:
    return torch.stack([vector(text) for text in texts])


def table() -> EmbeddingTable:
    titles = [{} if i in NO_TITLE else {"title": [f"title {i}", "another"]} for i in range(SAMPLES)]
    samples = tuple(Sample(f"{i}", i, i // 2, text=(f"caption {i}",), meta=titles[i]) for i in range(SAMPLES))
    pictures = [i for i in range(SAMPLES) if i not in NO_PICTURE]
    vectors = {
        "image": torch.stack([vector(f"image {i}") for i in pictures]),
        "text": torch.stack([vector(f"{word} caption {i}") for i in range(SAMPLES) for word in ("first", "second")]),
    }
    items = {"image": torch.tensor(pictures), "text": torch.arange(SAMPLES).repeat_interleave(2)}
    return EmbeddingTable(vectors, items, samples)


def test_documents_are_the_sums_of_the_parts_that_they_have() -> None:
    documents = {}
    for i in range(SAMPLES):
        parts = [] if i in NO_PICTURE else [0.4 * vector(f"image {i}")]
        parts += [] if i in NO_TITLE else [0.6 * vector(f"title {i}")]
        if parts:
            documents[i] = normalize(torch.stack(parts).sum(dim=0), dim=0)
    assert len(documents) == SAMPLES - 1
    found = []
    for i in documents:
        scores = {j: float(vector(f"first caption {i}") @ one) for j, one in documents.items()}
        best = sorted(scores, key=scores.__getitem__, reverse=True)
        found.append(min(best.index(j) for j in documents if j // 2 == i // 2))
    (measure,) = TASK.measure(table(), embed_text, EvalConfig())
    results = {one.metric: one for one in measure.results()}
    assert measure.subject == "query→document"
    for k in (1, 5, 10):
        assert results[f"R@{k}"].value == pytest.approx(sum(place < k for place in found) / len(found))
    assert {*TASK.metrics} == {*results}


def test_a_vector_of_zeros_is_a_document_that_is_not_found() -> None:
    whole = table()
    image = whole.vectors["image"].clone()
    image[0] = 0
    empty = replace(whole, vectors={**whole.vectors, "image": image})
    task = TASK.model_copy(update={"document": {"image": 1.0}})
    before, after = (task.measure(one, embed_text, EvalConfig())[0] for one in (whole, empty))
    assert after.items.equal(before.items)
    assert after.statistics["R@1"].values_Q[0] == 0


def test_the_task_of_products_reads_texts_of_json() -> None:
    (task,) = load_tasks(["products"])
    assert task == load_task("products")
    with pytest.raises(UserError, match="no sample of the data has a part of both `query` and `document`"):
        task.measure(table(), embed_text, EvalConfig())


@pytest.mark.parametrize(("parts", "message"), [
    ({"picture": 1}, "`picture` is neither a modality nor json.KEY"),
    ({"image": 0}, "the weight of `image` is 0"),
    ({"json.": 1}, "unknown place `json.`"),
    ({}, "at least 1 item"),
])  # fmt: skip
def test_wrong_parts_are_refused(parts: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CombinedRetrievalTask(kind="combined_retrieval", name="mine", title="Mine", query=parts, document={"image": 1})
