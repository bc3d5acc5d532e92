"""What a task asks of one subject, before any interval: a model's numbers and the difference of two models come from
the same statistics."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tercet.eval.bootstrap import Statistic, bootstrap
from tercet.eval.result import Result


@dataclass(frozen=True)
class Measure:
    """Statistics over the queries of one subject by metric, the item of each query, and what chance scores."""

    subject: str
    statistics: Mapping[str, Statistic]
    items: Tensor
    chance: Mapping[str, float]
    notes: Mapping[str, object] = field(default_factory=dict)
    task: str = ""
    title: str = ""

    def value(self, metric: str) -> float:
        return float(self.statistics[metric](torch.ones(1, len(self.items), dtype=torch.float64)))

    def results(self, dataset: str = "") -> list[Result]:
        """Every metric with its interval."""
        found = bootstrap(self.statistics, self.items)
        return [
            Result(
                self.subject, metric, *estimate, self.chance[metric], len(self.items),
                self.task, self.title, dataset, self.notes,
            )
            for metric, estimate in found.items()
        ]  # fmt: skip


def results(measures: Iterable[Measure], dataset: str = "") -> list[Result]:
    return [result for measure in measures for result in measure.results(dataset)]
