"""Zero-shot classification with prompt ensembles, from pictures and from sounds.

The vector of a class is the normalised mean of the unit vectors of its prompts. An item is assigned to the nearest
class. A tie is wrong.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from string import Formatter

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from tercet.configs.base import build
from tercet.data_pipelines.captions.templates import agree
from tercet.data_pipelines.sample import Sample
from tercet.errors import UserError, did_you_mean
from tercet.eval.config import EvalConfig
from tercet.eval.embed import EmbeddingTable, EvalError, TextEmbedder, embed_prompts
from tercet.eval.intervals import Share, Statistic, class_mean
from tercet.eval.labels import label_of, plain
from tercet.eval.measure import Measure
from tercet.eval.ranking import rank
from tercet.eval.task import KINDS, WordedTask, digest, entries, lookup

PROMPTS = {
    "image": ("a photo of a {class}.",),  # Radford et al. 2021
    "audio": ("This is a sound of {class}.",),  # Wu et al. 2023
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
    classes: dict[str, str] = Field(description="each label in `meta`, and its words in prompts")
    templates: tuple[str, ...] = Field(min_length=1, description="prompts; `{class}` is replaced by the class")
    fill: dict[str, tuple[str, ...]] = Field(
        {}, description="words for other slots; each choice of words gives a prompt"
    )
    articles: bool = Field(
        True, description="write `an` for `a` before a vowel; false: prompts word for word, as published ones are"
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
        return "acc1", "mean_per_class_recall", *(["acc5"] if len(self.classes) > 5 else [])

    @property
    def hashes(self) -> dict[str, str]:
        return {**super().hashes, "classes": digest([*self.classes.items()]), "prompts": fingerprint(self)}

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


def zero_shot(table: EmbeddingTable, embed_text: TextEmbedder, task: ZeroShotTask) -> list[Measure]:
    """Top-1, top-5 and balanced accuracy for every modality that the task and the table share."""
    labels = _labels(table, task)
    labelled = torch.tensor(list(labels))
    seen = {modality: torch.isin(items, labelled).nonzero().flatten() for modality, items in table.items.items()}
    modalities = [modality for modality in task.used_modalities(table) if len(seen[modality])]
    classes_CD = class_vectors(embed_text, task) if modalities else torch.empty(0)
    return [_classify(table, modality, seen[modality], labels, classes_CD, task) for modality in modalities]


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
    bears = partial(label_of, labels=list(order)) if task.label is None else partial(_label, task=task, path=task.label)
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


def _label(sample: Sample, task: ZeroShotTask, path: str) -> str | None:
    """The class in the sample's meta. None if the task does not use such samples."""
    try:
        if any(entries(sample.meta, path) != count for path, count in task.count.items()):
            return None
        if any(lookup(sample.meta, path) != value for path, value in task.where.items()):
            return None
        return str(lookup(sample.meta, path))
    except (KeyError, IndexError, TypeError):
        raise EvalError(
            f"task `{task.name}` needs `{path}` in the meta of sample `{sample.key}`; for classes of your own, use the "
            "task `zero_shot` with labels"
        ) from None


def _classify(
    table: EmbeddingTable, modality: str, rows: Tensor, labels: dict[int, int], classes_CD: Tensor, task: ZeroShotTask
) -> Measure:
    items = table.items[modality][rows]
    label = torch.tensor([labels[item] for item in items.tolist()])
    rows_nD = table.vectors[modality][rows]
    place = rank(rows_nD, classes_CD.to(rows_nD.dtype), label, torch.arange(len(classes_CD))).rank
    statistics, guess = _statistics(place, label, len(classes_CD))
    majority = float(label.bincount().max() / len(label))
    notes = {"classes": len(classes_CD), "majority": majority, "prompts": fingerprint(task)}
    if task.label is None and (unlabelled := len(set(table.items[modality].tolist())) - len(set(items.tolist()))):
        notes["items without one"] = unlabelled
    return Measure(f"{task.what} from {modality}", statistics, items, _observations(table, task)[items], guess, notes)


def _observations(table: EmbeddingTable, task: ZeroShotTask) -> Tensor:
    """The group of each item. A group that is named like a class is the class: its items are separate observations."""
    classes = set(map(plain, task.classes))
    named = torch.tensor([plain(str(sample.meta.get("group", ""))) in classes for sample in table.samples])
    alone = table.groups.min().clamp(max=0) - 1 - torch.arange(len(table.samples))
    return torch.where(named, alone, table.groups)


def _statistics(place: Tensor, label: Tensor, classes: int) -> tuple[dict[str, Statistic], dict[str, float]]:
    """The statistics and the score of chance in each. Top-5 needs more than five classes."""
    first: dict[str, Statistic] = {"acc1": Share(place == 1), "mean_per_class_recall": class_mean(place == 1, label)}
    guess = {"acc1": 1 / classes, "mean_per_class_recall": 1 / classes, "acc5": 5 / classes}
    return (first | {"acc5": Share(place <= 5)} if classes > 5 else first), guess
