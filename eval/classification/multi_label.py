"""Zero-shot classification of items that have several labels, such as the sounds of a scene.

- `mAP`: for each class, the average precision of all items, ranked by their score with the vector of the class; the
  mean over the classes that any item has.
- `LRAP`: for each item that has a label, the average precision of all classes, ranked by their score with the item
  (label ranking average precision).

A tie is wrong: a wrong candidate that scores as high as a right one is ranked before it.

Shape letters: n items, K classes.
"""

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from tercet.data_pipelines.sample import Sample
from tercet.errors import did_you_mean
from tercet.eval.classification.classified import class_vectors, is_selected
from tercet.eval.classification.labels import Spellings
from tercet.eval.classification.mean_precision import MeanPrecision, precisions
from tercet.eval.classification.prompted_task import PromptedTask, fingerprint
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable, EvalError, TextEmbedder
from tercet.eval.measure import Measure
from tercet.eval.null_scores import NullScores
from tercet.eval.products import products
from tercet.eval.ranking import chance
from tercet.eval.statistics.intervals import Share
from tercet.eval.task import KINDS, NoValue, lookup

LabelsPath = Annotated[
    str | None,
    Field(
        description="where the labels of an item are in its `meta`: a list, or a text with commas between them. Items "
        "without the key are left out; an empty list has no label"
    ),
]


@KINDS.register("multi_label")
class MultiLabelTask(PromptedTask):
    """Ranks the items of each class, and the classes of each item, where items have several labels."""

    label: LabelsPath = "labels"

    @property
    def metrics(self) -> tuple[str, ...]:
        return "mAP", "LRAP"

    def measure(self, table: EmbeddingTable, embed_text: TextEmbedder, config: EvalConfig) -> list[Measure]:
        return multi_label(table, embed_text, self)


def multi_label(table: EmbeddingTable, embed_text: TextEmbedder, task: MultiLabelTask) -> list[Measure]:
    """For every modality that the task and the table share."""
    spellings, place_of = Spellings(task.classes), {name: place for place, name in enumerate(task.classes)}
    right = {item: _right(sample, task, spellings, place_of) for item, sample in enumerate(table.samples)}
    known = {item: places for item, places in right.items() if places is not None}
    if not any(known.values()):
        raise EvalError(f"no sample of the data has labels of task `{task.name}` in `{task.label}` of its meta")
    classes_KD = class_vectors(embed_text, task)
    measures = []
    for modality in task.used_modalities(table):
        rows = torch.isin(table.items[modality], torch.tensor(list(known))).nonzero().flatten()
        items_n = table.items[modality][rows]
        right_nK = torch.zeros(len(rows), len(task.classes), dtype=torch.bool)
        for row, item in enumerate(items_n.tolist()):
            right_nK[row, known[item]] = True
        if right_nK.any():
            vectors_nD = table.vectors[modality][rows]
            scores_nK = products(vectors_nD, classes_KD.to(vectors_nD.dtype), table.world)
            measures.append(_measured(table, modality, items_n, scores_nK, right_nK, task))
    return measures


def _right(sample: Sample, task: MultiLabelTask, spellings: Spellings, place_of: Mapping[str, int]) -> list[int] | None:
    """The places of a sample's labels among the classes. None if the task does not use the sample."""
    try:
        if not is_selected(sample, task):
            return None
    except NoValue:
        return None
    named = listed_labels(sample, task.label or "labels")
    if named is None:
        return None
    places = []
    for name in named:
        label = spellings.find(name)
        if label is None:
            raise EvalError(
                f"sample `{sample.key}` has the label `{name}`, and task `{task.name}` does not; "
                f"{did_you_mean(name, list(place_of))}"
            )
        places.append(place_of[label])
    return places


def listed_labels(sample: Sample, path: str) -> list[str] | None:
    """The labels at a place of a sample's `meta`: a list, or a text with commas between them. None if it has none."""
    try:
        found = lookup(sample.meta, path)
    except NoValue:
        return None
    named = found.split(",") if isinstance(found, str) else found
    if not isinstance(named, list | tuple):
        raise EvalError(f"`{path}` of sample `{sample.key}` is `{found}`, and not a list of labels")
    return [name for name in map(str.strip, map(str, named)) if name]


def _measured(
    table: EmbeddingTable, modality: str, items_n: Tensor, scores_nK: Tensor, right_nK: Tensor, task: MultiLabelTask
) -> Measure:
    mean, by_item = MeanPrecision(scores_nK, right_nK), precisions(scores_nK, right_nK)
    by_class = mean.by_class_FK[0]
    labelled_n = right_nK.any(dim=1)
    names = [name for name, found in zip(task.classes, right_nK.any(dim=0).tolist(), strict=True) if found]
    of_class, of_item = right_nK.sum(dim=0)[right_nK.any(dim=0)], right_nK.sum(dim=1)[labelled_n]
    n, classes = right_nK.shape
    chances = {"mAP": mean_chance(of_class, n), "LRAP": mean_chance(of_item, classes)}
    worst = {"mAP": mean_worst(of_class, n), "LRAP": mean_worst(of_item, classes)}
    return Measure(
        f"{task.what} from {modality}",
        {
            "mAP": mean,
            "LRAP": Share(by_item.nan_to_num(), labelled_n.double()),
        },
        items_n,
        table.groups[items_n],
        chances,
        {"classes": classes, "prompts": fingerprint(task)},
        nulls=NullScores(worst, {**chances}, {"mAP": chances["mAP"]}),
        details={"mAP": {"by class": dict(zip(names, by_class[~by_class.isnan()].tolist(), strict=True))}},
    )


def mean_chance(positives: Tensor, candidates: int) -> float:
    """Of queries with so many right candidates each."""
    counts, queries = torch.unique(positives, return_counts=True)
    each = [chance.average_precision(count[None], candidates, candidates) for count in counts]
    return float(torch.tensor(each, dtype=torch.float64) @ queries.double() / queries.sum())


def mean_worst(positives: Tensor, candidates: int) -> float:
    """The same with all right candidates behind the wrong ones: the precision at the nth of c is n / (M - c + n)."""
    counts: list[int] = positives.tolist()
    precisions = [nth / (candidates - c + nth) / c for c in counts for nth in range(1, c + 1)]
    return sum(precisions) / len(counts)
