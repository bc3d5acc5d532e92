"""Zero-shot classification with prompt ensembles, from pictures and from sounds.

The vector of a class is the normalised mean of the unit vectors of its prompts. An item is assigned to the nearest
class. A tie is wrong.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from tercet.configs.base import build
from tercet.data_pipelines.sample import Sample
from tercet.distributed import World
from tercet.errors import UserError, did_you_mean
from tercet.eval.classification.labels import LabelReader, plain
from tercet.eval.classification.prompted_task import PromptedTask, fingerprint, prompts_of
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable, EvalError, TextEmbedder, embed_prompts
from tercet.eval.measure import Measure
from tercet.eval.null_scores import NullScores, best_answer
from tercet.eval.products import products
from tercet.eval.ranking.ranking import TIE, rank
from tercet.eval.statistics.intervals import Share, class_mean
from tercet.eval.statistics.weighted_shares import macro_f1, worst_share
from tercet.eval.task import KINDS, NoValue, has_entries, lookup

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


@dataclass(frozen=True)
class Classified:
    """The items of one modality that have a class, and the vectors of these and of every class.

    `place_n` is the rank of the true class; a tie is wrong. Shape letters: n items, K classes, D dimensions.
    """

    modality: str
    subject: str
    items_n: Tensor
    groups_n: Tensor
    label_n: Tensor
    vectors_nD: Tensor
    classes_KD: Tensor
    place_n: Tensor
    notes: dict[str, object]
    world: World

    def scores(self) -> Tensor:
        """The cosine of each item with each class `[n, K]`, which the ranks do without."""
        return products(self.vectors_nD, self.classes_KD, self.world)

    def answers(self) -> Tensor:
        """The class that each item is assigned to; -1 where several wrong classes tie."""
        others_nK = self.scores().scatter(1, self.label_n[:, None], -inf)
        best = others_nK.topk(min(2, others_nK.shape[1]), dim=1)
        alone_n = best.values[:, 0] - best.values[:, -1] > TIE
        wrong_n = torch.where(alone_n, best.indices[:, 0], -1)
        return torch.where(self.place_n == 1, self.label_n, wrong_n)

    def part(self, kept_n: Tensor, name: str) -> "Classified":
        """Some of the items."""
        label_n = self.label_n[kept_n]
        majority = float(label_n.bincount().max() / len(label_n))
        return replace(
            self, subject=f"{self.subject}, {name}", items_n=self.items_n[kept_n], groups_n=self.groups_n[kept_n],
            label_n=label_n, vectors_nD=self.vectors_nD[kept_n], place_n=self.place_n[kept_n],
            notes={**self.notes, "majority": majority},
        )  # fmt: skip


def zero_shot(table: EmbeddingTable, embed_text: TextEmbedder, task: ZeroShotTask) -> list[Measure]:
    """Top-k and balanced accuracy for every modality that the task and the table share."""
    measures = []
    for found in classified(table, embed_text, task):
        measures.append(_accuracies(found, task))
        if task.by is not None:
            measures += _by_part(found, [_part(table.samples[item], task) for item in found.items_n.tolist()], task)
    return measures


def classified(table: EmbeddingTable, embed_text: TextEmbedder, task: PromptedTask) -> list[Classified]:
    """The labelled items of every modality that the task and the table share."""
    labels = _labels(table, task)
    kept = torch.tensor(list(labels))
    seen = {modality: torch.isin(items, kept).nonzero().flatten() for modality, items in table.items.items()}
    modalities = [modality for modality in task.used_modalities(table) if len(seen[modality])]
    classes_KD = class_vectors(embed_text, task) if modalities else torch.empty(0)
    return [_scored(table, modality, seen[modality], labels, classes_KD, task) for modality in modalities]


def class_vectors(embed_text: TextEmbedder, task: PromptedTask) -> Tensor:
    """One unit vector per class, in the order of the task."""
    prompts = [prompts_of(task, words) for words in task.classes.values()]
    vectors = embed_prompts(embed_text, [prompt for row in prompts for prompt in row])
    return F.normalize(vectors.view(len(prompts), len(prompts[0]), -1).mean(dim=1), dim=1)


def _labels(table: EmbeddingTable, task: PromptedTask) -> dict[int, int]:
    """The class of each item that the task uses."""
    order = {name: place for place, name in enumerate(task.classes)}
    bears = LabelReader(list(order)) if task.label is None else partial(_label, task=task, path=task.label)
    named = {item: bears(sample) for item, sample in enumerate(table.samples)}
    labels = {item: order[label] for item, label in named.items() if label in order}
    for label in set(named.values()) - order.keys() - {None}:
        raise EvalError(
            f"the data have the class `{label}`, and task `{task.name}` does not; {did_you_mean(str(label), order)}"
        )
    if not labels:
        needed = task.count | task.where or f"a `label`, a `class` or a caption that names one of {', '.join(order)}"
        raise EvalError(f"no item of the data fits task `{task.name}`, which needs {needed}")
    return labels


def is_selected(sample: Sample, task: PromptedTask) -> bool:
    """Whether the task uses such samples. Raises NoValue if a condition names no value."""
    chosen = has_entries(sample.meta, task.count)
    return chosen and all(str(lookup(sample.meta, path)) == value for path, value in task.where.items())


def _label(sample: Sample, task: PromptedTask, path: str) -> str | None:
    """The class in the sample's meta. None if the task does not use such samples."""
    try:
        return str(lookup(sample.meta, path)) if is_selected(sample, task) else None
    except NoValue:
        raise EvalError(
            f"task `{task.name}` needs `{path}` in the meta of sample `{sample.key}`; give the classes with --labels, "
            "or name a task that fits the data, such as `retrieval` (eval.tasks in a recipe)"
        ) from None


def _scored(
    table: EmbeddingTable, modality: str, rows: Tensor, labels: dict[int, int], classes_KD: Tensor, task: PromptedTask
) -> Classified:
    items_n = table.items[modality][rows]
    label_n = torch.tensor([labels[item] for item in items_n.tolist()])
    vectors_nD = table.vectors[modality][rows]
    classes_KD = classes_KD.to(vectors_nD.dtype)
    place_n = rank(vectors_nD, classes_KD, label_n, torch.arange(len(classes_KD)), world=table.world).rank
    majority = float(label_n.bincount().max() / len(label_n))
    notes: dict[str, object] = {"classes": len(classes_KD), "majority": majority, "prompts": fingerprint(task)}
    if task.label is None and (unlabelled := len(set(table.items[modality].tolist())) - len(set(items_n.tolist()))):
        notes["items without a class"] = unlabelled
    return Classified(
        modality, f"{task.what} from {modality}", items_n, _observations(table, task)[items_n], label_n,
        vectors_nD, classes_KD, place_n, notes, table.world,
    )  # fmt: skip


def _observations(table: EmbeddingTable, task: PromptedTask) -> Tensor:
    """The group of each item. A group that is named like a class is the class: its items are separate observations."""
    classes = set(map(plain, task.classes))
    named = torch.tensor([plain(str(sample.meta.get("group", ""))) in classes for sample in table.samples])
    alone = table.groups.min().clamp(max=0) - 1 - torch.arange(len(table.samples))
    return torch.where(named, alone, table.groups)


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
