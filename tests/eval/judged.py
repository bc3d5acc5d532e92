"""A table of labelled pictures with captions, and a task of every kind that the self-test judges on it."""

from pathlib import Path

import torch
from torch.nn.functional import normalize

from tercet.data_pipelines.sample import Sample
from tercet.eval.embedding.embed import EmbeddingTable
from tercet.eval.retrieval.reduced import reduced_set
from tercet.eval.task import KINDS, Task
from tercet.eval.trust.self_test import Check

ITEMS, DIM, CLASSES = 64, 16, 4
WORDS = {f"c{number}": f"thing {number}" for number in range(CLASSES)}
PROMPTED = {"what": "class", "classes": WORDS, "templates": ["a {class}"]}


def not_again(source: str | None, towers: bool) -> EmbeddingTable:
    raise AssertionError("a self-test must not embed again")


def made() -> EmbeddingTable:
    """Pictures and two captions of each, around the centres of four equally frequent classes. Some share a group."""
    random = torch.Generator().manual_seed(0)
    label = torch.arange(ITEMS) % CLASSES
    base = torch.randn(CLASSES, DIM, generator=random)[label] + torch.randn(ITEMS, DIM, generator=random)
    items = {"image": torch.arange(ITEMS), "text": torch.arange(ITEMS).repeat_interleave(2)}
    vectors = {
        name: normalize(base[rows] + torch.randn(len(rows), DIM, generator=random), dim=1)
        for name, rows in items.items()
    }
    samples = tuple(
        Sample(f"s{n}", n, n - 2 * CLASSES * (n % 9 == 8), meta={
            "label": f"c{n % CLASSES}", "labels": [f"c{n % CLASSES}", *(["c0"] if n % 3 == 0 else [])],
            "split": "train" if n // CLASSES % 2 else "test", "score": n % 7, "query": f"query {n}",
            "title": f"title {n}", "same": f"query {n}", "related": {f"s{n + 1}": 2.0} if n + 1 < ITEMS else {},
        })
        for n in range(ITEMS)
    )  # fmt: skip
    return EmbeddingTable(vectors, items, samples, again=not_again, scales={"image": 20.0})


TABLE = made()


def of_kind(kind: str, **options: object) -> Task:
    found = KINDS.get(kind).model_validate({"kind": kind, "name": kind, "title": kind, **options})
    assert isinstance(found, Task)
    return found


EVERY: dict[str, tuple[Task, set[str]]] = {  # a task, and the metrics of which random vectors say nothing
    "graded": (of_kind("retrieval", relevance="related", further=["mAP", "nDCG@5", "median rank"]), {"median rank"}),
    "zero-shot": (of_kind("zero_shot", **PROMPTED), set()),
    "several labels": (of_kind("multi_label", **PROMPTED), set()),
    "calibration": (of_kind("calibration", **PROMPTED), {"calibration error"}),
    "folds": (of_kind("linear_probe"), set()),
    "own split": (of_kind("knn", train={"split": "train"}), set()),
    "other data": (of_kind("linear_probe", learn_from="other.csv", vectors="tower"), set()),
    "other data, knn": (of_kind("knn", learn_from="other.csv"), set()),
    "several labels, probe": (of_kind("multi_label_probe"), set()),
    "prototypes": (of_kind("few_shot", ways=3, queries=2), set()),
    "adapter": (of_kind("few_shot", method="clip_adapter", ways=None, shots=[1, 4]), set()),
    "combined": (
        of_kind("combined_retrieval", query={"json.query": 1}, document={"image": 0.9, "json.title": 0.1}),
        {"median rank"},
    ),
    "similarity": (of_kind("similarity", first="image", second="json.query"), set()),
    "geometry": (
        of_kind("geometry", items=30, neighbours=3),
        {"modality gap", "uniformity", "effective rank", "near-duplicates", "hubness", "largest hub"},
    ),
}


def failing(checks: list[Check]) -> set[str]:
    return {check.model for check in checks if not check.holds}


def reduced_task(folder: Path) -> Task:
    """Retrieval of a reduced set, which is written into the folder."""
    reduced_set([TABLE], 60, 3).write(folder / "set.json")
    return of_kind("reduced_retrieval", file=folder / "set.json")
