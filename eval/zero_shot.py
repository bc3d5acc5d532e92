"""Zero-shot classification with prompt ensembles, from pictures and from sounds.

The vector of a class is the normalised mean of the unit vectors of its prompts. An item is assigned to the nearest
class. A tie is wrong.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from string import Formatter
from typing import Annotated

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from tercet.configs.base import build
from tercet.data_pipelines.captions.templates import agree
from tercet.data_pipelines.sample import Sample
from tercet.distributed import World
from tercet.errors import UserError, did_you_mean
from tercet.eval.config import EvalConfig
from tercet.eval.embed import EmbeddingTable, EvalError, TextEmbedder, embed_prompts
from tercet.eval.intervals import Share, class_mean
from tercet.eval.labels import LabelReader, plain
from tercet.eval.measure import Measure
from tercet.eval.null_scores import NullScores, best_answer
from tercet.eval.products import products
from tercet.eval.published_words import Classes, Templates
from tercet.eval.ranking import rank
from tercet.eval.task import KINDS, NoValue, WordedTask, digest, has_entries, lookup

PROMPTS = {
    "image": ("a photo of a {class}.",),  # Radford et al. 2021
    "audio": ("This is a sound of {class}.",),  # Wu et al. 2023, with a full stop
}


@KINDS.register("zero_shot")
class ZeroShotTask(WordedTask):
    """Assigns each item to the class whose prompts are nearest."""

    what: str = Field(description="what the classes are, such as `shape`")
    label: str | None = Field(
        None,
        description="where the class of an item is in its `meta`, such as `objects[0].shape`; null: its `label` or "
        "`class`, or else the only class that its caption names",
    )
    count: dict[str, int] = Field(
        {}, description="only items whose list in `meta` has this many entries, such as `{objects: 1}`"
    )
    where: dict[str, str] = Field(
        {}, description="only items whose `meta` has this value, such as `{objects[0].size: large}`"
    )
    classes: Classes = Field(
        description="each label in `meta`, and its words in prompts; or a list of a package, such as "
        "`open_clip:IMAGENET_CLASSNAMES`"
    )
    templates: Templates = Field(
        min_length=1,
        description="prompts; `{class}` is replaced by the class; or a list of a package, such as "
        "`open_clip:OPENAI_IMAGENET_TEMPLATES`",
    )
    fill: dict[str, tuple[str, ...]] = Field(
        {}, description="words for other slots; each choice of words gives a prompt"
    )
    articles: bool = Field(
        True, description="write `an` for `a` before a vowel; false: prompts word for word, as published ones are"
    )
    top: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        (1, 5), min_length=1, description="top-k accuracy for these k, where there are more classes"
    )

    @model_validator(mode="after")
    def _fillable(self) -> "ZeroShotTask":
        for template in self.templates:
            slots = {slot for _, slot, _, _ in Formatter().parse(template) if slot is not None}
            if "class" not in slots:
                raise ValueError(f"the template `{template}` has no place for the class; add {{class}}")
            unknown = slots - {"class", *self.fill}
            if unknown:
                raise ValueError(f"`fill` has no words for {{{', '.join(sorted(unknown))}}}")
        return self

    @property
    def metrics(self) -> tuple[str, ...]:
        first, *others = [k for k in self.top if k < len(self.classes)] or [1]
        return f"acc{first}", "mean_per_class_recall", *(f"acc{k}" for k in others)

    @property
    def hashes(self) -> dict[str, str]:
        return {**super().hashes, "classes": digest([*self.classes.items()]), "prompts": fingerprint(self)}

    def reordered(self) -> "ZeroShotTask":
        """Where the data may number the classes, their order stays."""
        return self if self.label is None else self.model_copy(update={"classes": dict(reversed(self.classes.items()))})

    def measure(self, table: EmbeddingTable, embed_text: TextEmbedder, config: EvalConfig) -> list[Measure]:
        return zero_shot(table, embed_text, self)


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


def zero_shot(table: EmbeddingTable, embed_text: TextEmbedder, task: ZeroShotTask) -> list[Measure]:
    """Top-k and balanced accuracy for every modality that the task and the table share."""
    return [_accuracies(found, task) for found in classified(table, embed_text, task)]


def classified(table: EmbeddingTable, embed_text: TextEmbedder, task: ZeroShotTask) -> list[Classified]:
    """The labelled items of every modality that the task and the table share."""
    labels = _labels(table, task)
    kept = torch.tensor(list(labels))
    seen = {modality: torch.isin(items, kept).nonzero().flatten() for modality, items in table.items.items()}
    modalities = [modality for modality in task.used_modalities(table) if len(seen[modality])]
    classes_KD = class_vectors(embed_text, task) if modalities else torch.empty(0)
    return [_scored(table, modality, seen[modality], labels, classes_KD, task) for modality in modalities]


def class_vectors(embed_text: TextEmbedder, task: ZeroShotTask) -> Tensor:
    """One unit vector per class, in the order of the task."""
    prompts = [prompts_of(task, words) for words in task.classes.values()]
    vectors = embed_prompts(embed_text, [prompt for row in prompts for prompt in row])
    return F.normalize(vectors.view(len(prompts), len(prompts[0]), -1).mean(dim=1), dim=1)


def prompts_of(task: ZeroShotTask, words: str) -> list[str]:
    """Every template filled with the class, once for each choice of words for its other slots."""
    prompts = [prompt for template in task.templates for prompt in _filled(template, {**task.fill, "class": (words,)})]
    return list(map(agree, prompts)) if task.articles else prompts


def _filled(template: str, words: Mapping[str, tuple[str, ...]]) -> list[str]:
    slots = [name for _, name, _, _ in Formatter().parse(template) if name]
    chosen = product(*(words[slot] for slot in slots))
    return [template.format(**dict(zip(slots, choice, strict=True))) for choice in chosen]


def fingerprint(task: ZeroShotTask) -> str:
    """Identifies the class names and templates of a result."""
    words = [list(task.classes.items()), task.templates, list(task.fill.items())]
    return digest(words if task.articles else [*words, "word for word"])


def _labels(table: EmbeddingTable, task: ZeroShotTask) -> dict[int, int]:
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


def is_selected(sample: Sample, task: ZeroShotTask) -> bool:
    """Whether the task uses such samples. Raises NoValue if a condition names no value."""
    chosen = has_entries(sample.meta, task.count)
    return chosen and all(str(lookup(sample.meta, path)) == value for path, value in task.where.items())


def _label(sample: Sample, task: ZeroShotTask, path: str) -> str | None:
    """The class in the sample's meta. None if the task does not use such samples."""
    try:
        return str(lookup(sample.meta, path)) if is_selected(sample, task) else None
    except NoValue:
        raise EvalError(
            f"task `{task.name}` needs `{path}` in the meta of sample `{sample.key}`; give the classes with --labels, "
            "or name a task that fits the data, such as `retrieval` (eval.tasks in a recipe)"
        ) from None


def _scored(
    table: EmbeddingTable, modality: str, rows: Tensor, labels: dict[int, int], classes_KD: Tensor, task: ZeroShotTask
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


def _observations(table: EmbeddingTable, task: ZeroShotTask) -> Tensor:
    """The group of each item. A group that is named like a class is the class: its items are separate observations."""
    classes = set(map(plain, task.classes))
    named = torch.tensor([plain(str(sample.meta.get("group", ""))) in classes for sample in table.samples])
    alone = table.groups.min().clamp(max=0) - 1 - torch.arange(len(table.samples))
    return torch.where(named, alone, table.groups)


def _accuracies(found: Classified, task: ZeroShotTask) -> Measure:
    right_n, classes = found.place_n == 1, len(task.classes)
    statistics: dict[str, Share] = {}
    guess, constant, shuffled = {}, {}, {}
    for metric in task.metrics:
        balanced = metric == "mean_per_class_recall"
        k = 1 if balanced else int(metric.removeprefix("acc"))
        statistics[metric] = class_mean(right_n, found.label_n) if balanced else Share(found.place_n <= k)
        guess[metric] = min(k / classes, 1.0)
        constant[metric] = float(k >= classes)  # all classes tie
        shuffled[metric] = best_answer(found.label_n, torch.zeros_like(found.label_n), statistics[metric].weights_Q, k)
    by_class = {
        name: float(right_n[found.label_n == place].double().mean())
        for place, name in enumerate(task.classes)
        if bool((found.label_n == place).any())
    }
    details = {"mean_per_class_recall": {"by class": by_class}}
    nulls = NullScores(constant, {**guess}, shuffled)
    return Measure(
        found.subject, statistics, found.items_n, found.groups_n, guess, found.notes, nulls=nulls, details=details
    )
