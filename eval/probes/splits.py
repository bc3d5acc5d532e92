"""Which items a probe learns from, and which it is tested on. All items of one group are on the same side.

- `learn_from`: other data are the training split, and all of these are tested. Groups of different data are different.
- `train`: the data say which samples are the training split, and the others are tested.
- `fold`: the data say which fold a sample is in. Each fold is tested once, after training on the others, as the
  protocol of ESC-50 says (Piczak 2015).
- otherwise, the groups are dealt into `folds`, class by class, by a hash of their ids.

Training samples that share a group with tested ones are left out.

Shape letters: n items.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from pydantic import Field, model_validator
from torch import Tensor

from tercet.configs.base import Misfit
from tercet.data_pipelines.sample import Sample
from tercet.data_pipelines.seeding import keys
from tercet.eval.embedding.embed import EvalError
from tercet.eval.probes.labelled import Labelled, LabelledTask
from tercet.eval.task import NoValue, lookup


class SplitTask(LabelledTask):
    """A task that learns classes from a part of the items and is tested on the others."""

    learn_from: str | None = Field(
        None, description="other data that are the training split: a table, a folder or shards, with the same columns"
    )
    train: dict[str, str] = Field(
        {}, description="samples whose `meta` has this value are the training split, such as `{split: train}`"
    )
    fold: str | None = Field(None, description="where the fold of a sample is in its `meta`, such as `fold`")
    folds: int = Field(5, gt=1, description="without `train` and `fold`: the groups are dealt into this many folds")

    @model_validator(mode="after")
    def _one_rule(self) -> "SplitTask":
        given = [name for name in ("learn_from", "train", "fold") if getattr(self, name)]
        if len(given) > 1:
            both = f"the task has `{given[0]}`, too"
            raise Misfit(given[1], f"{both}, and only one of them can split the data; remove one")
        return self


@dataclass(frozen=True)
class Split:
    """The places of the items to learn from and of those to test, and how many others share a group with these."""

    train_n: Tensor
    test_n: Tensor
    left_out: int


def joined(known: Labelled, tested: Labelled) -> tuple[Labelled, Split]:
    """The items of two data, of which the first ones are those to learn from."""
    classes = sorted({*known.classes, *tested.classes})
    place = torch.tensor([classes.index(name) for name in (*known.classes, *tested.classes)])
    apart_n = int(tested.groups_n.min()) - 1 - torch.unique(known.groups_n, return_inverse=True)[1]
    rights = [_among(data, classes) for data in (known, tested) if data.right_nK is not None]
    both = Labelled(
        [*known.samples, *tested.samples],
        torch.cat([known.vectors_nD, tested.vectors_nD]),
        torch.cat([torch.full_like(known.items_n, -1), tested.items_n]),
        place[torch.cat([known.labels_n, tested.labels_n + len(known.classes)])],
        torch.cat([apart_n, tested.groups_n]),
        classes,
        torch.cat(rights) if rights else None,
        tested.world,
    )
    count = len(known.samples)
    return both, Split(torch.arange(count), torch.arange(count, len(both.samples)), 0)


def _among(data: Labelled, classes: Sequence[str]) -> Tensor:
    """Which of more classes each item has."""
    assert data.right_nK is not None
    right_nK = torch.zeros(len(data.right_nK), len(classes), dtype=torch.bool)
    right_nK[:, [classes.index(name) for name in data.classes]] = data.right_nK
    return right_nK


def splits(data: Labelled, task: SplitTask) -> Iterator[Split]:
    """One split for `train`, or one for each fold."""
    if task.train:
        known_n = torch.tensor([_is_training(sample, task) for sample in data.samples])
        yield _split(data, ~known_n, f"the test split, which has no {_shown(task.train)},", task)
        return
    if task.fold is not None:
        names = [_fold_of(sample, task, task.fold) for sample in data.samples]
    else:
        names = [str(fold) for fold in dealt(data.samples, data.labels_n, data.groups_n, task.folds).tolist()]
    for name in sorted(set(names)):
        yield _split(data, torch.tensor([one == name for one in names]), f"fold `{name}`", task)


def dealt(samples: Sequence[Sample], labels_n: Tensor, groups_n: Tensor, folds: int) -> Tensor:
    """The fold of each item. The groups of each class take turns, in the order of a hash of the ids of the first items,
    so that every fold has about as many of each class."""
    hash_n = keys("probe folds", 0, 0, [sample.id for sample in samples])
    groups = groups_n.tolist()
    first: dict[int, int] = {}
    for place, group in enumerate(groups):
        first.setdefault(group, place)
    order = sorted(first, key=lambda group: (int(labels_n[first[group]]), int(hash_n[first[group]])))
    fold = {group: turn % folds for turn, group in enumerate(order)}
    return torch.tensor([fold[group] for group in groups])


def _split(data: Labelled, test_n: Tensor, name: str, task: SplitTask) -> Split:
    if not test_n.any():
        raise EvalError(f"task `{task.name}`: {name} has no labelled sample; check `train` and the data")
    shared_n = ~test_n & torch.isin(data.groups_n, data.groups_n[test_n])
    train_n = ~test_n & ~shared_n
    if len(torch.unique(data.labels_n[train_n])) < 2:
        raise EvalError(
            f"task `{task.name}` tests {name} and has {int(train_n.sum())} samples to learn from, of fewer than two "
            "classes; add samples, or change `train`, `fold` or `folds`"
        )
    return Split(train_n.nonzero().flatten(), test_n.nonzero().flatten(), int(shared_n.sum()))


def _is_training(sample: Sample, task: SplitTask) -> bool:
    try:
        return all(str(lookup(sample.meta, path)) == value for path, value in task.train.items())
    except NoValue:
        raise EvalError(
            f"task `{task.name}` needs {_shown(task.train)} in the meta of its training samples, and sample "
            f"`{sample.key}` has no such key; correct `train`"
        ) from None


def _fold_of(sample: Sample, task: SplitTask, path: str) -> str:
    try:
        return str(lookup(sample.meta, path))
    except NoValue:
        raise EvalError(
            f"task `{task.name}` needs `{path}` in the meta of sample `{sample.key}`; name another key in `fold`, or "
            "set `fold: null` to deal the samples into folds"
        ) from None


def _shown(train: dict[str, str]) -> str:
    return ", ".join(f"`{key}: {value}`" for key, value in train.items())
