"""The items that a task classifies by prompts: their classes, their vectors and those of the classes.

The vector of a class is the normalised mean of the unit vectors of its prompts.
"""

from dataclasses import dataclass, replace
from functools import partial
from math import inf

import torch
from torch import Tensor
from torch.nn import functional as F

from tercet.data_pipelines.sample import Sample
from tercet.distributed import World
from tercet.errors import did_you_mean
from tercet.eval.classification.labels import LabelReader, plain
from tercet.eval.classification.prompted_task import PromptedTask, fingerprint, prompts_of
from tercet.eval.embedding.embed import EmbeddingTable, EvalError, TextEmbedder, embed_prompts
from tercet.eval.products import products
from tercet.eval.ranking.ranking import TIE, rank
from tercet.eval.task import NoValue, has_entries, lookup


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
        return replace(
            self, subject=f"{self.subject}, {name}", items_n=self.items_n[kept_n], groups_n=self.groups_n[kept_n],
            label_n=label_n, vectors_nD=self.vectors_nD[kept_n], place_n=self.place_n[kept_n],
            notes={**self.notes, "majority": largest_share(label_n)},
        )  # fmt: skip


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
    notes: dict[str, object] = {
        "classes": len(classes_KD), "majority": largest_share(label_n), "prompts": fingerprint(task)
    }  # fmt: skip
    if task.label is None and (unlabelled := len(set(table.items[modality].tolist())) - len(set(items_n.tolist()))):
        notes["items without a class"] = unlabelled
    return Classified(
        modality, f"{task.what} from {modality}", items_n, _observations(table, task)[items_n], label_n,
        vectors_nD, classes_KD, place_n, notes, table.world,
    )  # fmt: skip


def largest_share(label_n: Tensor) -> float:
    """The share of the items that have the most frequent class."""
    return int(label_n.bincount().max()) / len(label_n)


def _observations(table: EmbeddingTable, task: PromptedTask) -> Tensor:
    """The group of each item. A group that is named like a class is the class: its items are separate observations."""
    classes = set(map(plain, task.classes))
    named = torch.tensor([plain(str(sample.meta.get("group", ""))) in classes for sample in table.samples])
    alone = table.groups.min().clamp(max=0) - 1 - torch.arange(len(table.samples))
    return torch.where(named, alone, table.groups)
