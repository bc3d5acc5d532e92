"""Correlations and their intervals against SciPy and loops, and the task `similarity` on pairs that are worked out."""

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy.stats import pearsonr, spearmanr
from torch.nn.functional import normalize

from tercet.data_pipelines.sample import Sample
from tercet.eval.compare import compare
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable, EvalError
from tercet.eval.load_tasks import load_task
from tercet.eval.measure import Measure, results
from tercet.eval.retrieval.similarity import SimilarityTask
from tercet.eval.statistics.jackknife import Correlation, Jackknifed, correlation, jackknife, ranked
from tercet.eval.trust.self_test import THOROUGH, self_test

DIM = 16
TASK = SimilarityTask(
    kind="similarity", name="pairs", title="Pairs", first={"json.one": 1.0}, second={"json.two": 1.0}, grade="score"
)


def embed_text(texts: list[str]) -> torch.Tensor:
    """A text `NUMBER ANGLE` has the angle to the first axis, in a plane of its own number."""
    rows = torch.zeros(len(texts), DIM)
    for row, text in enumerate(texts):
        number, angle = text.split()
        rows[row, 0], rows[row, 1 + int(number) % (DIM - 1)] = np.cos(float(angle)), np.sin(float(angle))
    return rows


def pairs(angles: list[float], grades: list[object], group: int = 1) -> EmbeddingTable:
    samples = tuple(
        Sample(f"s{n}", n, n // group, meta={"one": f"{n} 0", "two": f"{n} {angle}", "score": grade})
        for n, (angle, grade) in enumerate(zip(angles, grades, strict=True))
    )
    return EmbeddingTable({"text": torch.eye(len(samples), DIM)}, {"text": torch.arange(len(samples))}, samples)


def measured(table: EmbeddingTable, task: SimilarityTask = TASK) -> Measure:
    (found,) = task.measure(table, embed_text, EvalConfig())
    return found


@settings(max_examples=60, deadline=None)
@given(some.lists(some.tuples(some.integers(0, 5), some.integers(0, 5)), min_size=3, max_size=20))
def test_correlations_equal_those_of_scipy_also_with_ties(values: list[tuple[int, int]]) -> None:
    x, y = (torch.tensor(column) for column in zip(*values, strict=True))
    if len(set(x.tolist())) == 1 or len(set(y.tolist())) == 1:
        assert correlation(x, y) == correlation(x, y, ranks=True) == 0
    else:
        assert correlation(x, y) == pytest.approx(pearsonr(x, y).statistic, abs=1e-9)
        assert correlation(x, y, ranks=True) == pytest.approx(spearmanr(x, y).statistic, abs=1e-9)


def test_equal_values_share_their_mean_rank() -> None:
    assert ranked(torch.tensor([5.0, 1.0, 5.0, 9.0])).tolist() == [2.5, 1.0, 2.5, 4.0]


def test_the_jackknife_of_a_mean_is_its_closed_form_and_blocks_are_whole_groups() -> None:
    values = torch.randn(24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    error = float(values.std()) / sqrt(24)
    assert jackknife(lambda kept: float(values[kept].mean()), torch.arange(24)).margin == pytest.approx(
        2.0687 * error, rel=1e-3
    )
    together = jackknife(lambda kept: float(values[kept].mean()), torch.arange(24) // 4)
    assert together.margin == pytest.approx(2.5706 * float(values.view(6, 4).mean(1).std()) / sqrt(6), rel=1e-3)
    assert jackknife(lambda kept: float(values[kept].mean()), torch.zeros(24)).margin == float("inf")


def test_a_perfect_score_on_few_samples_has_an_interval() -> None:
    perfect = Jackknifed(torch.ones(10), lambda rows: float(rows.mean()), 0.0, 1.0)
    found = perfect.estimate(torch.arange(10))
    assert (found.value, found.high) == (1, 1)
    assert found.low == pytest.approx(1 - 2.262 / 10, abs=1e-3)


def test_a_statistic_that_has_no_value_without_some_group_has_the_widest_interval() -> None:
    """The mean of what is not missing, where only the first group has any of it."""
    values = Jackknifed(torch.tensor([0.25, torch.nan, torch.nan]), lambda rows: float(rows.nanmean()), 0.0, 1.0)
    assert values.estimate(torch.arange(3)) == (0.25, 0.0, 1.0)


def test_unequal_groups_weigh_as_their_queries() -> None:
    """The formula in a loop, for groups of 1, 2 and 5 queries."""
    values, group = torch.tensor([3.0, 1, 4, 1, 5, 9, 2, 6]).double(), torch.tensor([0, 1, 1, 2, 2, 2, 2, 2])
    whole, rest = float(values.mean()), [float(values[group != block].mean()) for block in range(3)]
    h = [8 / 1, 8 / 2, 8 / 5]
    centre = 3 * whole - sum((1 - 1 / one) * other for one, other in zip(h, rest, strict=True))
    pseudo = [one * whole - (one - 1) * other for one, other in zip(h, rest, strict=True)]
    variance = sum((value - centre) ** 2 / (one - 1) for value, one in zip(pseudo, h, strict=True)) / 3
    found = jackknife(lambda kept: float(values[kept].mean()), group)
    assert found.margin == pytest.approx(4.3027 * sqrt(variance), rel=1e-2)


@pytest.mark.parametrize(("groups", "size", "ranks"), [(12, 1, False), (40, 1, True), (40, 4, True)])
def test_the_interval_of_a_correlation_holds_the_true_one(groups: int, size: int, ranks: bool) -> None:
    """Pearson's ρ, and Spearman's 6 / π · asin(ρ / 2), of normal pairs; pairs of a group are equal up to some noise."""
    random, rho, held = np.random.default_rng(0), 0.6, 0
    true = 6 / np.pi * np.arcsin(rho / 2) if ranks else rho
    group = torch.arange(groups).repeat_interleave(size)
    for _ in range(60):
        apart = np.random.default_rng(int(random.integers(1 << 30)))
        x, other = (
            np.sqrt(0.8) * apart.normal(size=groups).repeat(size) + np.sqrt(0.2) * apart.normal(size=groups * size)
            for _ in range(2)
        )
        values = torch.tensor(np.stack([x, rho * x + np.sqrt(1 - rho**2) * other], 1))
        _, low, high = Correlation(values, ranks).estimate(group)
        held += low <= true <= high
    assert held >= 54


def test_the_task_measures_cosines_against_grades() -> None:
    angles, grades = [0.1, 0.5, 0.9, 1.3, 2.0, 2.5, 2.7, 2.9], [5.0, 4.0, 4.5, 2.0, 1.0, 0.5, 0.4, 0.1]
    found = {result.metric: result for result in results([measured(pairs(angles, [*map(str, grades)]))])}
    assert found["spearman"].value == pytest.approx(spearmanr(np.cos(angles), grades).statistic)
    assert found["pearson"].value == pytest.approx(pearsonr(np.cos(angles), grades).statistic, abs=1e-6)
    assert found["spearman"].above_chance
    assert (found["spearman"].chance, found["spearman"].n) == (0, 8)


def test_a_perfect_and_a_constant_model_and_two_groups() -> None:
    rising = [*map(float, range(8))]
    perfect, constant = pairs([3 - 0.3 * n for n in range(8)], rising), pairs([0.5] * 8, rising)
    assert measured(perfect).statistics["spearman"].value == pytest.approx(1)
    low, high = measured(perfect).statistics["spearman"].estimate(torch.arange(8))[1:]
    assert 0.5 < low < 1 == pytest.approx(high)
    assert measured(constant).statistics["spearman"].value == 0
    assert measured(perfect).statistics["pearson"].estimate(torch.arange(8) % 2)[1:] == (-1, 1)
    apart = {one.metric: one for one in compare([measured(constant)], [measured(perfect)])}
    assert apart["spearman"].apart.value == pytest.approx(1)
    assert apart["spearman"].better


def test_null_models_score_what_they_must() -> None:
    angles = torch.rand(30, generator=torch.Generator().manual_seed(1)).tolist()
    checks = self_test(pairs(angles, [*map(float, range(30))]), [TASK], replace(THOROUGH, draws=(16, 40)))
    assert {check.model for check in checks} == {"constant", "random", "reordered"}
    assert [check for check in checks if not check.holds] == []


def test_a_picture_and_a_text_are_a_pair_and_samples_without_a_grade_are_left_out() -> None:
    table = pairs([0.2, 0.9, 1.5, 2.2, 3.0], [5, 4, None, 2, 1])
    samples = tuple(
        one if one.meta["score"] is not None else Sample(one.key, one.id, one.group, meta={"two": one.meta["two"]})
        for one in table.samples
    )
    pictured = EmbeddingTable(
        {"image": normalize(torch.eye(DIM)[:1].repeat(5, 1), dim=1)},
        table.items and {"image": torch.arange(5)},
        samples,
    )
    found = measured(pictured, TASK.model_copy(update={"first": {"image": 1.0}}))
    assert found.subject == "image, json.two"
    assert found.items.tolist() == [0, 1, 3, 4]
    assert found.statistics["spearman"].value == pytest.approx(1)


def test_grades_that_are_no_numbers_and_missing_ones_are_errors() -> None:
    for grade in ("good", "nan", float("inf")):
        with pytest.raises(EvalError, match=f"the grade `score` of sample `s1` is `{grade}`, which is not a number"):
            measured(pairs([0.1, 0.2], [1, grade]))
    with pytest.raises(EvalError, match="no sample of the data has `grade` in its meta"):
        measured(pairs([0.1], [1]), TASK.model_copy(update={"grade": "grade"}))
    with pytest.raises(EvalError, match="no graded sample of the data has both parts"):
        measured(pairs([0.1], [1]), TASK.model_copy(update={"first": {"json.three": 1.0}}))


def test_a_single_name_is_a_part_and_unknown_parts_are_refused() -> None:
    loaded = load_task("similarity")
    assert isinstance(loaded, SimilarityTask)
    assert (loaded.first, loaded.second) == ({"text": 1.0}, {"json.sentence2": 1.0})
    with pytest.raises(ValueError, match="neither a modality nor json"):
        SimilarityTask.model_validate({**TASK.model_dump(), "first": "sentence1"})


def test_the_difference_of_two_functions_is_paired() -> None:
    values = torch.rand(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    one = Jackknifed(values, lambda rows: float(rows.mean()), 0, 1)
    other = Jackknifed(values + 0.1, lambda rows: float(rows.mean()), 0, 1)
    assert other.difference(one, torch.arange(20)) == pytest.approx((0.1, 0.1, 0.1))
