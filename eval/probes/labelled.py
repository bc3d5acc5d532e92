"""Items with a class, for tasks that learn classes from examples: linear probes, nearest neighbours, few-shot adapters.

Items are in the order of their ids, so that no result depends on the order of the table. Each counts with its first
vector. Items of one group are one observation. A group that is named like its class is the class, and its items are
observations of their own.

Shape letters: n items, D dimensions, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from pydantic import Field
from torch import Tensor

from tercet.data_pipelines.sample import Sample
from tercet.distributed import World
from tercet.eval.classification.labels import KEYS, plain
from tercet.eval.embedding.embed import EmbeddingTable, EvalError
from tercet.eval.ranking.ranking import TIE
from tercet.eval.task import NoValue, WordedTask, has_entries, lookup


class LabelledTask(WordedTask):
    """A task that learns classes from examples."""

    what: str = Field("class", description="what the classes are, such as `shape`")
    label: str | None = Field(
        None,
        description="where the class of an item is in its `meta`, such as `objects[0].shape`; null: its `label` or "
        "`class`",
    )
    count: dict[str, int] = Field(
        {}, description="only items whose list in `meta` has this many entries, such as `{objects: 1}`"
    )

    def label_of(self, sample: Sample) -> str | None:
        """The class of a sample. None if it has none, or the task does not use such samples."""
        if self.label is None:
            return next((str(sample.meta[key]) for key in KEYS if sample.meta.get(key) is not None), None)
        try:
            return str(lookup(sample.meta, self.label)) if has_entries(sample.meta, self.count) else None
        except NoValue:
            return None

    def informed(self, table: EmbeddingTable) -> EmbeddingTable | None:
        """Each class has an axis, and its items have this direction."""
        names = [self.label_of(sample) for sample in table.samples]
        axis = {name: place for place, name in enumerate(dict.fromkeys(names))}
        direction_nK = torch.eye(len(axis), dtype=torch.float64)[torch.tensor([axis[name] for name in names])]
        return replace(table, vectors={modality: direction_nK[items] for modality, items in table.items.items()})


@dataclass(frozen=True)
class Labelled:
    """The items of one modality that have a class. `right_nK`: which classes each has, if it may have several. `world`:
    the ranks that all hold these items."""

    samples: Sequence[Sample]
    vectors_nD: Tensor
    items_n: Tensor
    labels_n: Tensor
    groups_n: Tensor
    classes: Sequence[str]
    right_nK: Tensor | None = None
    world: World = field(default_factory=World)


def labelled(table: EmbeddingTable, modality: str, task: LabelledTask) -> Labelled:
    """In double precision, with the classes in alphabetical order."""
    first = table.first_rows(modality)
    named = {item: label for item in first if (label := task.label_of(table.samples[item])) is not None}
    if not named:
        place = "`label` or `class`" if task.label is None else f"`{task.label}`"
        raise EvalError(f"no sample with {modality} has {place} in its meta, the class in task `{task.name}`")
    items = sorted(named, key=lambda item: table.samples[item].id)
    classes = sorted(set(named.values()))
    place_of = {name: place for place, name in enumerate(classes)}
    samples = [table.samples[item] for item in items]
    return Labelled(
        samples,
        table.vectors[modality][torch.tensor([first[item] for item in items])].double(),
        torch.tensor(items),
        torch.tensor([place_of[named[item]] for item in items]),
        torch.tensor([_observation(sample, named[item]) for sample, item in zip(samples, items, strict=True)]),
        classes,
        world=table.world,
    )


def _observation(sample: Sample, label: str) -> int:
    """The group of a sample, or a number of its own, below those of all groups."""
    alone = plain(str(sample.meta.get("group", ""))) == plain(label)
    return -1 - sample.id if alone else sample.group


def place_of_right(scores_nK: Tensor, labels_n: Tensor) -> Tensor:
    """The rank of the right class. A tie is wrong: a class that scores as high is ranked before it."""
    right_n1 = scores_nK.gather(1, labels_n[:, None])
    return (scores_nK >= right_n1 - TIE).sum(dim=1)
