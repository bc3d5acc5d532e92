"""The average of a group of tasks: by hand, nested, over several datasets, and as one row with its interval."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tercet.errors import UserError
from tercet.eval.average import averages
from tercet.eval.compare import compare
from tercet.eval.config import EvalConfig
from tercet.eval.evaluate import measure
from tercet.eval.measure import Measure
from tercet.eval.result import Result, to_json
from tercet.eval.statistics.intervals import MeanRank, Share, class_mean
from tercet.training.checkpoints.config import BestConfig
from tercet.training.history.evaluations import score
from tests.eval.test_eval_self_test import table

GROUPS = {
    "inner": "{kind: group, average: true, tasks: [zero_shot_shape, composition]}",
    "outer": "{kind: group, average: true, title: Everything, tasks: [retrieval, inner.yaml]}",
    "loose": "{kind: group, tasks: [zero_shot_shape, composition]}",
    "flat": "{kind: group, average: true, tasks: [retrieval, loose.yaml]}",
}


@pytest.fixture(autouse=True)
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in GROUPS.items():
        Path(f"{name}.yaml").write_text(text, encoding="utf-8")


def embed_text(texts: list[str]) -> torch.Tensor:
    generator = [torch.Generator().manual_seed(sum(map(ord, text))) for text in texts]
    return torch.stack([torch.randn(24, generator=one) for one in generator])


def of(name: str) -> tuple[list[Measure], list[Measure]]:
    """The measures of the tasks of a group, and the averages."""
    found = measure(table(), embed_text, [name], EvalConfig())
    return [one for one in found if "average" not in one.statistics], [
        one for one in found if "average" in one.statistics
    ]


def mean_of(measures: list[Measure], task: str) -> float:
    """The mean over the subjects of a task of the first metric."""
    values = [next(iter(one.statistics.values())).value for one in measures if one.task == task]
    return sum(values) / len(values)


def test_a_group_within_a_group_counts_once_if_it_is_an_average() -> None:
    measures, means = of("outer.yaml")
    retrieval, shape, composition = (mean_of(measures, one) for one in ("retrieval", "zero_shot_shape", "composition"))
    assert [(one.task, one.title, one.subject) for one in means] == [
        ("inner", "Average of inner", "mean of 2 tasks"), ("outer", "Everything", "mean of 3 tasks"),
    ]  # fmt: skip
    inner, outer = (one.statistics["average"].value for one in means)
    assert inner == pytest.approx((shape + composition) / 2)
    assert outer == pytest.approx((retrieval + inner) / 2)
    measures, (flat,) = of("flat.yaml")
    assert flat.statistics["average"].value == pytest.approx((retrieval + shape + composition) / 3)


def test_an_average_names_its_metrics_and_has_an_interval_and_chance() -> None:
    measures, (mean,) = of("inner.yaml")
    (result,) = mean.results()
    parts = result.metadata["of"]
    assert isinstance(parts, Mapping)
    assert list(parts) == [f"{one.task} · {one.subject} {next(iter(one.statistics))}" for one in measures]
    assert result.low < result.value < result.high  # type: ignore[operator]
    own = {
        task: [one.chance[next(iter(one.chance))] for one in measures if one.task == task]
        for task in ("zero_shot_shape", "composition")
    }
    assert result.chance == pytest.approx(sum(sum(values) / len(values) for values in own.values()) / 2)


def share(task: str, hits: torch.Tensor, classes: torch.Tensor | None = None) -> Measure:
    statistic = Share(hits) if classes is None else class_mean(hits, classes)
    item = torch.arange(len(hits))
    return Measure("x", {"acc1": statistic}, item, -1 - item, {"acc1": 0.1}, task=task)


def test_tasks_on_the_same_items_are_not_taken_for_independent_ones() -> None:
    """Twice the same task has the interval of the task itself; two tasks on other items have a narrower one."""
    (average,) = averages(["inner.yaml"])
    hits = torch.rand(200, generator=torch.Generator().manual_seed(0)) < 0.4

    def width(measured: dict[str, list[Measure]]) -> float:
        found = average.of(measured)
        assert found is not None
        (result,) = found.results()
        return result.high - result.low  # type: ignore[operator]

    twice = [share("zero_shot_shape", hits), share("composition", hits)]
    (alone,) = twice[0].results()
    assert width({"one": twice}) == pytest.approx(alone.high - alone.low, rel=1e-6)  # type: ignore[operator]
    assert width({"one": twice[:1], "other": twice[1:]}) < 0.75 * width({"one": twice})


def test_the_interval_of_an_average_holds_its_true_value() -> None:
    """Two tasks of unequal size on the same 60 items, with items that are hard in both."""
    (average,) = averages(["inner.yaml"])
    generator = torch.Generator().manual_seed(1)
    held = 0
    for _ in range(400):
        hard = torch.rand(60, generator=generator)
        first, second = (torch.rand(60, generator=generator) < hard for _ in range(2))
        found = average.of({"": [share("zero_shot_shape", first), share("composition", second[:20])]})
        assert found is not None
        (result,) = found.results()
        held += bool(result.low <= 0.5 <= result.high)  # type: ignore[operator]
    assert held >= 400 * 0.92


def test_averages_over_datasets_weigh_every_result_alike() -> None:
    (average,) = averages(["inner.yaml"])
    measured = {
        "a": [share("zero_shot_shape", torch.tensor([True, True]))],
        "b": [share("zero_shot_shape", torch.tensor([True, False])), share("composition", torch.tensor([False] * 9))],
    }
    found = average.of(measured)
    assert found is not None
    assert found.statistics["average"].value == pytest.approx((1 + 0.5 + 0) / 3)
    assert found.subject == "mean of 3 tasks"
    assert list(found.results()[0].metadata["of"]) == [  # type: ignore[call-overload]
        "a · zero_shot_shape · x acc1", "b · zero_shot_shape · x acc1", "b · composition · x acc1",
    ]  # fmt: skip
    assert average.of({"a": measured["a"]}) is None


def test_a_dataset_may_count_with_another_metric() -> None:
    """As DataComp takes the mean-per-class recall of Caltech-101, FGVC Aircraft, Flowers and Pets."""
    Path("datacomp.yaml").write_text(
        GROUPS["inner"].replace("kind: group", "kind: group, metrics: {pets: recall}"), encoding="utf-8"
    )
    (average,) = averages(["datacomp.yaml"])
    hits, classes = torch.tensor([True, True, True, False]), torch.tensor([0, 0, 0, 1])
    both = share("zero_shot_shape", hits)
    both = replace(
        both, statistics={**both.statistics, "recall": class_mean(hits, classes)}, chance={"acc1": 0.1, "recall": 0.5}
    )
    other = share("composition", hits)
    found = average.of({"cars": [both, other], "pets": [both]})
    assert found is not None
    assert found.statistics["average"].value == pytest.approx((0.75 + 0.75 + 0.5) / 3)
    assert found.chance["average"] == pytest.approx((0.1 + 0.1 + 0.5) / 3)
    with pytest.raises(UserError, match="task `composition` has no `recall` on pets; known: acc1"):
        average.of({"cars": [both], "pets": [other]})


def test_averages_of_two_models_are_compared_on_the_same_items() -> None:
    measures, means = of("inner.yaml")
    (apart,) = [one for one in compare([*measures, *means], [*measures, *means]) if one.metric == "average"]
    assert (apart.apart.value, apart.verdict) == (0, "undecided")


def test_ranks_have_no_average() -> None:
    (average,) = averages(["inner.yaml"])
    item = torch.arange(3)
    rank = Measure("x", {"mean rank": MeanRank(item + 1, 3)}, item, item, {"mean rank": 2.0}, task="composition")
    with pytest.raises(UserError, match="the metric of task `composition` is `mean rank`, which has no mean"):
        average.of({"": [share("zero_shot_shape", torch.tensor([True, False, True])), rank]})


def test_a_run_may_stop_early_by_an_average() -> None:
    found = [
        Result("image→text", "R@1", 0.1, 0.0, 1.0, 0.0, 8, "retrieval"),
        Result("mean of 3 tasks", "average", 0.4, 0.0, 1.0, 0.0, 8, "outer"),
    ]
    results = to_json(found, "m")
    assert score(results, BestConfig(task="outer.yaml", metric="average")) == 0.4
    assert score(results, BestConfig(task="outer.yaml", metric="R@1")) == 0.1
