"""The average of a group of tasks, as DataComp reports one: the mean of the first metric of each task. A group may name
another metric for a dataset, such as the mean-per-class recall that DataComp takes on four of them.

A task with several subjects, such as both directions of retrieval, counts as one, with the mean of its subjects that
have the metric. A group within the group counts as one task if it is an average itself; otherwise, its tasks count one
by one.

The average is a share with a weight for every query, so that intervals and paired differences follow from the same
closed forms. Which part of the items is the worst, where a worst part counts, is taken for known. Queries of one item
are one observation, also if they belong to several tasks.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tercet.errors import did_you_mean
from tercet.eval.embedding.embed import EvalError
from tercet.eval.load_tasks import load_task
from tercet.eval.measure import Measure
from tercet.eval.statistics.intervals import Share
from tercet.eval.task import Task, TaskGroup

METRIC = "average"
ALL = "all datasets"  # in place of the name of a dataset


@dataclass(frozen=True)
class Average:
    """A group of tasks whose average is a result."""

    group: TaskGroup

    def of(self, measured: Mapping[str, Sequence[Measure]]) -> Measure | None:
        """The average over the measures of one or more datasets; None if they lack one of the tasks."""
        by_task = {
            (dataset, task): measures
            for dataset, every in measured.items()
            for task, measures in _by_task(every).items()
        }
        shares = _shares(self.group, {task for _, task in by_task})
        found = {key: measures for key, measures in by_task.items() if key[1] in shares}
        if len({task for _, task in found}) < len(shares) or len(found) < 2:
            return None
        whole = sum(shares[task] for _, task in found)
        weighted = {key: shares[key[1]] / whole for key in found}
        return _averaged(self.group, found, weighted, len(measured) > 1)


def overall(measured: Mapping[str, Sequence[Measure]], asked: Mapping[str, Sequence[str | Task]]) -> list[Measure]:
    """The averages over several datasets. `asked`: by dataset, the tasks of the evaluation that use it."""
    found = []
    for task in dict.fromkeys(one for name in measured for one in asked[name] if isinstance(one, str)):
        those = {name: measures for name, measures in measured.items() if task in asked[name]}
        if len(those) > 1:
            found += [mean for average in averages([task]) if (mean := average.of(those))]
    return found


def means(measures: Sequence[Measure], asked: Sequence[str | Task], dataset: str = "") -> list[Measure]:
    """The averages of groups on one dataset, as far as it has the measures. `asked`: the tasks of the evaluation."""
    return [mean for average in averages(asked) if (mean := average.of({dataset: measures}))]


def averages(tasks: Sequence[str | Task]) -> list[Average]:
    """The groups among the tasks that are averages, and those within them, the inner ones first."""
    groups = [load_task(one) for one in tasks if isinstance(one, str)]
    return [average for group in groups if isinstance(group, TaskGroup) for average in _within(group)]


def _within(group: TaskGroup) -> Iterator[Average]:
    for one in map(load_task, group.tasks):
        if isinstance(one, TaskGroup):
            yield from _within(one)
    if group.average:
        yield Average(group)


def _shares(group: TaskGroup, measured: Collection[str]) -> dict[str, float]:
    """The weight of each task, by its name; together 1. A group that was measured as a task is one: `zero_shot`, where
    the data bring classes along."""
    parts: list[dict[str, float]] = []
    for one in map(load_task, group.tasks):
        if not isinstance(one, TaskGroup) or (one.name in measured and not one.average):
            parts.append({one.name: 1.0})
        elif one.average:
            parts.append(_shares(one, measured))
        else:
            parts += [{task: 1.0} for task in _shares(one, measured)]
    shares: dict[str, float] = {}
    for part in parts:
        for task, share in part.items():
            shares[task] = shares.get(task, 0.0) + share / len(parts)
    return shares


def _by_task(measures: Sequence[Measure]) -> dict[str, list[Measure]]:
    found: dict[str, list[Measure]] = {}
    for one in measures:
        found.setdefault(one.task, []).append(one)
    return found


def _averaged(
    group: TaskGroup,
    found: Mapping[tuple[str, str], Sequence[Measure]],
    weighted: Mapping[tuple[str, str], float],
    several: bool,
) -> Measure:
    values, weights, items, groups, parts, chance = [], [], [], [], {}, 0.0
    first_item = dict.fromkeys((dataset for dataset, _ in found), 0)
    for number, dataset in enumerate(first_item):
        first_item[dataset] = number << 40  # items of two datasets are not the same
    for key, measures in found.items():
        metric = _metric(measures, group, key[0])
        counted = [one for one in measures if metric in one.statistics]
        for one in counted:
            share = _share(one, metric, group)
            weight = weighted[key] / len(counted)
            values.append(share.values_Q.double())
            own = torch.ones(len(one.items)) if share.weights_Q is None else share.weights_Q
            weights.append(own.double() / own.double().sum() * weight)
            items.append(one.items + first_item[key[0]])
            groups.append(_first_item(one) + first_item[key[0]])
            chance += weight * one.chance[metric]
            name = f"{one.subject} {metric}"
            parts[f"{key[0]} · {key[1]} · {name}" if several else f"{key[1]} · {name}"] = share.value
    statistic = Share(torch.cat(values), torch.cat(weights))
    return Measure(
        f"mean of {len(found)} tasks", {METRIC: statistic}, torch.cat(items), torch.cat(groups), {METRIC: chance},
        {"of": parts}, task=group.name, title=group.title or f"Average of {group.name}",
    )  # fmt: skip


def _metric(measures: Sequence[Measure], group: TaskGroup, dataset: str) -> str:
    """The metric that counts: that which the group names for the dataset, or the first one. Subjects without it do not
    count."""
    known = dict.fromkeys(metric for one in measures for metric in one.statistics)
    metric = group.metrics.get(dataset, next(iter(known)))
    if metric not in known:
        raise EvalError(
            f"group `{group.name}`: task `{measures[0].task}` has no `{metric}` on {dataset}; "
            f"{did_you_mean(metric, known)}"
        )
    return metric


def _share(measure: Measure, metric: str, group: TaskGroup) -> Share:
    """The metric must be a share: ranks and distances have no common mean."""
    statistic = measure.statistics[metric]
    if not isinstance(statistic, Share):
        raise EvalError(
            f"group `{group.name}`: the metric of task `{measure.task}` is `{metric}`, which has no mean with shares "
            "such as accuracy and R@1; name another metric, or leave the task out of the group"
        )
    return statistic


def _first_item(measure: Measure) -> Tensor:
    """For each query, the first item of its group: a name of the group that all tasks share."""
    names, place = torch.unique(measure.groups, return_inverse=True)
    first = torch.full((len(names),), torch.iinfo(torch.int64).max)
    return first.scatter_reduce(0, place, measure.items, "amin")[place]
