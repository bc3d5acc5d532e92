"""One result of an evaluation with its interval and its baselines, and results as JSON."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Any

from tercet.eval.statistics.scale import scale_of

Json = dict[str, object]


@dataclass(frozen=True, repr=False)
class Result:
    """A metric of one subject (`image→text`, `image`, `audio, swapped`), its 95 % interval and the score of chance.

    `shortcuts` holds the scores of shortcut baselines on the same items. A score that another library computed has no
    interval and no chance, and `n` only if that library says it.
    """

    subject: str
    metric: str
    value: float
    low: float | None
    high: float | None
    chance: float | None
    n: int | None
    task: str = ""
    title: str = ""
    dataset: str = ""
    metadata: Mapping[str, object] = field(default_factory=dict)
    shortcuts: Mapping[str, float] = field(default_factory=dict)
    before: float | None = None  # the value before training

    @property
    def name(self) -> str:
        return f"{self.subject} {self.metric}"

    @property
    def guess(self) -> tuple[str, float] | None:
        """What the metric is compared with: chance or, for accuracy, the share of the largest class if that is more."""
        if self.chance is None:
            return None
        majority = float(str(self.metadata.get("majority", 0))) if self.metric == "acc1" else 0.0
        return ("the share of the largest class", majority) if majority > self.chance else ("chance", self.chance)

    @property
    def above_chance(self) -> bool | None:
        """Whether the whole interval is better than guessing; None if that is not known."""
        if self.guess is None or self.low is None or self.high is None:
            return None
        _, guess = self.guess
        return self.high < guess if scale_of(self.metric).better == "lower" else self.low > guess

    def __repr__(self) -> str:
        interval = "no interval" if self.low is None else f"{self.low:.4g} to {self.high:.4g}"
        chance = "" if self.chance is None else f", chance {self.chance:.4g}"
        count = "" if self.n is None else f", n = {self.n}"
        return f"{self.name}: {self.value:.4g} ({interval}{chance}{count})"


def to_json(results: Iterable[Result], model: str, pretrained: str = "", language: str = "en") -> list[Json]:
    """One object per dataset and task, in the format of CLIP_benchmark. `details` adds intervals and baselines."""
    of_task: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        of_task.setdefault((result.dataset, result.task), []).append(result)
    return [
        {
            "dataset": dataset,
            "model": model,
            "pretrained": pretrained,
            "task": task,
            "metrics": {result.name: result.value for result in found},
            "language": language,
            "details": {result.name: _details(result) for result in found},
        }
        for (dataset, task), found in of_task.items()
    ]


def _details(result: Result) -> Json:
    entry: Json = {"subject": result.subject, "metric": result.metric, "title": result.title}
    beside: Json = {"interval": interval_json(result.low, result.high), "chance": result.chance, "n": result.n}
    beside["above_chance"] = result.above_chance
    beside |= {} if result.before is None else {"before": result.before}
    return {**entry, **beside, "shortcuts": dict(result.shortcuts), **result.metadata}


def interval_json(low: float | None, high: float | None) -> list[float | None]:
    """Both ends; null for one without a bound, as JSON has no infinity."""
    return [end if end is not None and isfinite(end) else None for end in (low, high)]


def from_json(tasks: Iterable[Mapping[str, Any]]) -> list[Result]:
    """The results from what `to_json` returned."""
    return [
        _result({**details}, task["metrics"][name], task["task"], task["dataset"])
        for task in tasks
        for name, details in task["details"].items()
    ]


def _result(details: dict[str, Any], value: float, task: str, dataset: str) -> Result:
    """All details that are not a field of `Result` are metadata."""
    subject, metric, title = (details.pop(name) for name in ("subject", "metric", "title"))
    low, high = details.pop("interval")
    if (low is None) != (high is None):  # one end has no bound
        low, high = -inf if low is None else low, inf if high is None else high
    chance, n, shortcuts = (details.pop(name) for name in ("chance", "n", "shortcuts"))
    before = details.pop("before", None)
    del details["above_chance"]  # follows from the numbers
    return Result(subject, metric, value, low, high, chance, n, task, title, dataset, details, shortcuts, before)
