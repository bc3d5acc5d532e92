"""What a task measures of one subject. Both a model's results and the difference of two models come from it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tercet.eval.null_scores import NullScores
from tercet.eval.result import Result
from tercet.eval.statistics.intervals import Statistic


@dataclass(frozen=True)
class Measure:
    """Statistics of one subject's queries by metric, and by metric what chance scores, where it has a score.

    `items` and `groups` name the item and the group of each query. Groups are the independent observations that
    intervals count. `shortcuts` computes the scores of baselines in the first metric, which only results need.
    `nulls` says what models score that have learned nothing. `notes` are facts about all metrics, `details` about one.
    """

    subject: str
    statistics: Mapping[str, Statistic]
    items: Tensor
    groups: Tensor
    chance: Mapping[str, float]
    notes: Mapping[str, object] = field(default_factory=dict)
    shortcuts: Callable[[], Mapping[str, float]] = dict
    task: str = ""
    title: str = ""
    nulls: NullScores = field(default_factory=NullScores)
    details: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    observed: str = "groups"  # what the independent observations are called

    def results(self, dataset: str = "") -> list[Result]:
        """Every metric with its interval."""
        items, groups = (len(torch.unique(names)) for names in (self.items, self.groups))
        notes = {**self.notes, self.observed: groups} if groups < items else self.notes
        first = next(iter(self.statistics), "")
        return [
            Result(
                self.subject, metric, *statistic.estimate(self.groups), self.chance.get(metric), len(self.items),
                self.task, self.title, dataset, {**notes, **self._facts(metric)},
                self.shortcuts() if metric == first else {},
            )
            for metric, statistic in self.statistics.items()
        ]  # fmt: skip

    def _facts(self, metric: str) -> Mapping[str, object]:
        constant = self.nulls.constant
        return {**({"constant": constant[metric]} if metric in constant else {}), **self.details.get(metric, {})}


def results(measures: Iterable[Measure], dataset: str = "") -> list[Result]:
    return [result for measure in measures for result in measure.results(dataset)]
