"""Zero-shot classification with prompt ensembles, from pictures and from sounds.

The vector of a class is the normalised mean of the unit vectors of its prompts. An item is assigned to the nearest
class. A tie is wrong.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field

from tercet.configs.base import build
from tercet.data_pipelines.sample import Sample
from tercet.errors import UserError
from tercet.eval.classification.classified import Classified, classified
from tercet.eval.classification.prompted_task import PromptedTask
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable, EvalError, TextEmbedder
from tercet.eval.measure import Measure
from tercet.eval.null_scores import NullScores, best_answer
from tercet.eval.statistics.intervals import Share, class_mean
from tercet.eval.statistics.weighted_shares import macro_f1, worst_share
from tercet.eval.task import KINDS, NoValue, lookup

PROMPTS = {
    "image": ("a photo of a {class}.",),  # Radford et al. 2021
    "audio": ("This is a sound of {class}.",),  # Wu et al. 2023, with a full stop
}


@KINDS.register("zero_shot")
class ZeroShotTask(PromptedTask):
    """Assigns each item to the class whose prompts are nearest."""

    top: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        (1, 5), min_length=1, description="top-k accuracy for these k, where there are more classes"
    )
    further: tuple[Literal["macro F1"], ...] = Field(
        (), description="further metrics: macro F1, the mean of F1 over the classes that an item has"
    )
    by: str | None = Field(
        None,
        description="results for each part of the items, and the top-k accuracy of the worst part: where in `meta` the "
        "part of an item is, such as `region`",
    )

    @property
    def metrics(self) -> tuple[str, ...]:
        first, *others = self.accuracies
        return first, "mean_per_class_recall", *others, *self.further, *(map(worst, self.accuracies) if self.by else ())

    @property
    def accuracies(self) -> tuple[str, ...]:
        """The names of the top-k accuracies."""
        return tuple(f"acc{k}" for k in [k for k in self.top if k < len(self.classes)] or [1])

    def measure(self, table: EmbeddingTable, embed_text: TextEmbedder, config: EvalConfig) -> list[Measure]:
        return zero_shot(table, embed_text, self)


def worst(metric: str) -> str:
    """The name of a metric of the worst part."""
    return f"worst {metric}"


def label_tasks(
    labels: Sequence[str] | Mapping[str, str], templates: str | Sequence[str] = (), articles: bool = True
) -> list[ZeroShotTask]:
    """One task for pictures and one for sounds. A mapping gives the words of each label in prompts."""
    if isinstance(labels, str):
        raise UserError(f"labels are a list of classes, and `{labels}` is a text; write ['boat', 'car']")
    worded = (templates,) if isinstance(templates, str) else tuple(templates)
    classes = dict(labels) if isinstance(labels, Mapping) else {label: label.replace("_", " ") for label in labels}
    return [
        build(ZeroShotTask, {
            "kind": "zero_shot", "name": "zero_shot", "title": "Zero-shot", "what": "class", "modalities": (modality,),
            "classes": classes, "templates": worded or usual, "articles": articles,
        }, lambda key: "labels")
        for modality, usual in PROMPTS.items()
    ]  # fmt: skip


def zero_shot(table: EmbeddingTable, embed_text: TextEmbedder, task: ZeroShotTask) -> list[Measure]:
    """Top-k and balanced accuracy for every modality that the task and the table share."""
    measures = []
    for found in classified(table, embed_text, task):
        measures.append(_accuracies(found, task))
        if task.by is not None:
            measures += _by_part(found, [_part(table.samples[item], task) for item in found.items_n.tolist()], task)
    return measures


def _part(sample: Sample, task: ZeroShotTask) -> str:
    try:
        return str(lookup(sample.meta, str(task.by)))
    except NoValue:
        raise EvalError(
            f"task `{task.name}` has `by: {task.by}`, which is missing in the meta of sample `{sample.key}`; add it, "
            "or leave the sample out"
        ) from None


def _by_part(found: Classified, named: Sequence[str], task: ZeroShotTask) -> list[Measure]:
    """A measure of each part of the items, and one of the worst part."""
    parts = sorted(set(named))
    part_n = torch.tensor([parts.index(one) for one in named])
    of_parts = [_accuracies(found.part(part_n == place, name), task) for place, name in enumerate(parts)]
    statistics, details, guess, constant, shuffled = {}, {}, {}, {}, {}
    for metric in task.accuracies:
        k = int(metric.removeprefix("acc"))
        statistics[worst(metric)] = share = worst_share(found.place_n <= k, part_n)
        details[worst(metric)] = {"worst": parts[share.part]}
        guess[worst(metric)] = of_parts[0].chance[metric]
        constant[worst(metric)] = of_parts[0].nulls.constant[metric]
        shuffled[worst(metric)] = min(one.nulls.shuffled[metric] for one in of_parts)
    nulls = NullScores(constant, {}, shuffled)
    notes = {**found.notes, "parts": len(parts)}
    subject = f"{found.subject}, worst {task.by}"
    return [
        *of_parts,
        Measure(subject, statistics, found.items_n, found.groups_n, guess, notes, nulls=nulls, details=details),
    ]


def _accuracies(found: Classified, task: ZeroShotTask) -> Measure:
    right_n, label_n, classes = found.place_n == 1, found.label_n, len(task.classes)
    there = [(name, label_n == place) for place, name in enumerate(task.classes) if bool((label_n == place).any())]
    alone_n = torch.zeros_like(label_n)
    statistics: dict[str, Share] = {}
    guess, constant, shuffled = {}, {}, {}
    for metric in (*task.accuracies, "mean_per_class_recall"):
        balanced = metric == "mean_per_class_recall"
        k = 1 if balanced else int(metric.removeprefix("acc"))
        statistics[metric] = class_mean(right_n, label_n) if balanced else Share(found.place_n <= k)
        guess[metric] = min(k / classes, 1.0)
        constant[metric] = float(k >= classes)  # all classes tie
        shuffled[metric] = best_answer(label_n, alone_n, statistics[metric].weights_Q, k)
    random: dict[str, float | None] = {**guess}
    if "macro F1" in task.further:
        statistics["macro F1"] = macro_f1(label_n, found.answers())
        shares = [float(has_n.double().mean()) for _, has_n in there]
        guess["macro F1"] = sum(2 * share / (classes * share + 1) for share in shares) / len(there)
        constant["macro F1"] = float(classes == 1)
        shuffled["macro F1"] = 1 / len(there)  # answers as frequent as the classes
    by_class = {name: float(right_n[has_n].double().mean()) for name, has_n in there}
    return Measure(
        found.subject,
        {metric: statistics[metric] for metric in task.metrics if metric in statistics},
        found.items_n,
        found.groups_n,
        guess,
        found.notes,
        nulls=NullScores(constant, random, shuffled),
        details={"mean_per_class_recall": {"by class": by_class}},
    )
