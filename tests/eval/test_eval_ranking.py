"""Ranks against a naive loop over the full matrix, and the rules that broken embeddings must not slip through."""

import math
from itertools import combinations, product
from resource import RUSAGE_SELF, getrusage
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tercet.data_pipelines.sample import Sample
from tercet.distributed import World
from tercet.eval.embedding.embed import EmbeddingTable, EvalError
from tercet.eval.ranking import chance, ranking
from tercet.eval.ranking.ranking import TIE, Ranking, rank, rank_rights
from tercet.eval.ranking.rights import Rights
from tercet.testing import on_ranks


def unit(*shape: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=1)


def naive(
    queries: Tensor, candidates: Tensor, own: list[int], theirs: list[int], depth: int
) -> tuple[list[int], list[float]]:
    """Sorts every row of the whole matrix, wrong candidates first among equals."""
    ranks, precisions = [], []
    for query, group in zip(queries, own, strict=True):
        scores = [
            (float(query @ candidate), other != group) for candidate, other in zip(candidates, theirs, strict=True)
        ]
        order = sorted(scores, key=lambda pair: (-round(pair[0], 5), not pair[1]))
        found = [place for place, (_, wrong) in enumerate(order, start=1) if not wrong]
        ranks.append(found[0])
        precision = [number / place for number, place in enumerate(found, start=1) if place <= depth]
        precisions.append(sum(precision) / min(len(found), depth))
    return ranks, precisions


@pytest.mark.parametrize("captions", [1, 3, 14])
@pytest.mark.parametrize("tile", [7, 1000])
def test_ranks_and_precisions_equal_those_of_a_sorted_matrix(captions: int, tile: int) -> None:
    items = 23
    theirs = [item for item in range(items) for _ in range(captions)]
    queries = unit(items, 5, seed=1)
    candidates = F.normalize(queries[theirs] + 0.8 * unit(len(theirs), 5, seed=2), dim=1)
    found = rank(queries, candidates, torch.arange(items), torch.tensor(theirs), depth=10, tile=tile)
    ranks, precisions = naive(queries, candidates, list(range(items)), theirs, depth=10)
    assert found.rank.tolist() == ranks
    assert found.average_precision(10).tolist() == pytest.approx(precisions)
    assert len(set(ranks)) > 1


def test_candidates_in_another_order_have_the_same_ranks() -> None:
    queries, candidates, groups = unit(40, 8, seed=3), unit(40, 8, seed=4), torch.arange(40)
    shuffled = torch.randperm(40, generator=torch.Generator().manual_seed(5))
    straight = rank(queries, candidates, groups, groups)
    permuted = rank(queries, candidates[shuffled], groups, groups[shuffled])
    assert straight.rank.equal(permuted.rank)
    assert torch.allclose(straight.average_precision(10), permuted.average_precision(10))


@pytest.mark.parametrize("items", [3, 64, 257])
def test_constant_embeddings_have_the_last_rank(items: int) -> None:
    same = unit(1, 384, seed=6).expand(items, -1).contiguous()
    found = rank(same, same, torch.arange(items), torch.arange(items))
    assert set(found.rank.tolist()) == {items}
    assert found.average_precision(10).sum() == pytest.approx(
        sum(1 / items for _ in range(items)) if items <= 10 else 0
    )


def values_of(found: Ranking, k: int) -> dict[str, list[float]]:
    """Every value that metrics are made of, for each query."""
    known = {
        "before": found.before_QK[:, 0],
        "precision": found.precision(k),
        "R": found.r_precision(),
        "AP": found.average_precision(),
        "AP@k": found.average_precision(k),
        "reciprocal": found.reciprocal_rank(),
        "nDCG": found.ndcg(k),
    }
    return {name: values.tolist() for name, values in known.items()}


def naive_values(relevant: list[list[float]], k: int) -> dict[str, list[float]]:
    """The same from the grades of all candidates in order of rank, for each query."""
    rows: dict[str, list[float]] = {}
    for grades in relevant:
        right = [grade > 0 for grade in grades]
        count = sum(right)
        precision = [sum(right[: place + 1]) / (place + 1) for place in range(len(right)) if right[place]]
        cut = [sum(right[: place + 1]) / (place + 1) for place in range(min(k, len(right))) if right[place]]
        discount = [1 / math.log2(place + 2) for place in range(len(right))]
        gain = sum(a * b for a, b in zip(grades[:k], discount, strict=False))
        ideal = sum(a * b for a, b in zip(sorted(grades, reverse=True)[:k], discount, strict=False))
        own = {
            "before": right.index(True),
            "precision": sum(right[:k]) / k,
            "R": sum(right[:count]) / count,
            "AP": sum(precision) / count,
            "AP@k": sum(cut) / min(count, k),
            "reciprocal": 1 / (right.index(True) + 1),
            "nDCG": gain / ideal,
        }
        for name, value in own.items():
            rows.setdefault(name, []).append(value)
    return rows


@st.composite
def coarse(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Few queries and candidates with coordinates of 0, 1 or 2: many tie, some are equal, and there may be only one.
    Each query has a right answer."""
    groups = draw(st.lists(st.integers(0, 3), min_size=1, max_size=14))
    own = draw(st.lists(st.sampled_from(groups), min_size=1, max_size=9))
    cells = st.lists(st.integers(0, 2), min_size=2, max_size=2)
    rows = [draw(st.lists(cells, min_size=len(one), max_size=len(one))) for one in (own, groups)]
    return torch.tensor(rows[0]).float(), torch.tensor(rows[1]).float(), torch.tensor(own), torch.tensor(groups)


@settings(max_examples=80)
@given(coarse(), st.integers(1, 12), st.integers(1, 6), st.integers(1, 6), st.booleans())
def test_all_values_equal_those_of_a_sorted_list_whatever_ties(
    case: tuple[Tensor, Tensor, Tensor, Tensor], k: int, tile: int, width: int, many: bool
) -> None:
    queries, candidates, own, groups = case
    with patch.object(ranking, "MANY", 0 if many else 64):
        found = rank(queries, candidates, own, groups, depth=None, tile=tile, width=width)
    scores = (queries @ candidates.T).tolist()
    ordered = []
    for row, group in zip(scores, own.tolist(), strict=True):
        right = [float(other == group) for other in groups.tolist()]
        ordered.append([grade for _, grade in sorted(zip(row, right, strict=True), key=lambda one: (-one[0], one[1]))])
    for name, values in naive_values(ordered, k).items():
        assert values_of(found, k)[name] == pytest.approx(values, rel=1e-12), name
    assert found.positives.tolist() == [sum(row == 1 for row in grades) for grades in ordered]


@settings(max_examples=50)
@given(st.data(), st.integers(1, 6))
def test_graded_answers_that_tie_come_from_the_lowest_grade(data: st.DataObject, k: int) -> None:
    """Candidates score 0, 0.5 or 1, and each has a grade, of which 0 is wrong."""
    count = data.draw(st.integers(1, 8))
    scores, grades = (
        data.draw(st.lists(values, min_size=count, max_size=count))
        for values in (st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.5, 1.0, 3.0]))
    )
    grades[data.draw(st.integers(0, count - 1))] = 2.0
    columns = [place for place, grade in enumerate(grades) if grade > 0]
    rights = Rights(
        torch.zeros(2).long(),
        torch.full((2,), len(columns)),
        torch.tensor(columns),
        torch.tensor([grades[place] for place in columns]),
    )
    jitter = TIE / 10 * torch.arange(count) / count  # less than counts as a difference
    candidates = (torch.tensor(scores) + jitter)[:, None].double()
    found = rank_rights(torch.ones(2, 1).double(), candidates, rights, width=3)
    order = sorted(zip(scores, grades, strict=True), key=lambda one: (-one[0], one[1]))
    for name, values in naive_values([[grade for _, grade in order]] * 2, k).items():
        assert values_of(found, k)[name] == pytest.approx(values, rel=1e-12), name


def test_many_right_answers_have_the_ranks_of_few_passes() -> None:
    groups = torch.arange(700) % 3
    queries, candidates = unit(20, 6, seed=1), unit(700, 6, seed=2)
    found = rank(queries, candidates, groups[:20], groups, depth=None, width=128)
    with patch.object(ranking, "MANY", 1000):
        assert rank(queries, candidates, groups[:20], groups, depth=None).before_QK.equal(found.before_QK)


@given(st.integers(0, 4), st.sampled_from([math.nan, math.inf, -math.inf]))
def test_vectors_that_are_not_finite_are_an_error(row: int, value: float) -> None:
    rows, items = unit(5, 4, seed=1), torch.arange(5)
    rows[row, 2] = value
    samples = tuple(Sample(f"s{n}", n, n) for n in range(5))
    with pytest.raises(EvalError, match=f"the text embedding of sample `s{row}` is not finite"):
        EmbeddingTable({"image": unit(5, 4, seed=2), "text": rows}, {"image": items, "text": items}, samples)


@pytest.mark.long
def test_memory_does_not_grow_with_the_number_of_pairs() -> None:
    """The matrix of all scores would have 3.6 GB."""
    before, after = on_ranks(_peak, 1, 30_000)[0]
    assert after - before < 400 * 2**20


def _peak(world: World, items: int) -> tuple[int, int]:
    """The peak memory of the process before and after it ranks."""
    rows, groups = unit(items, 64, seed=1), torch.arange(items)
    peaks = [1024 * getrusage(RUSAGE_SELF).ru_maxrss]
    assert (rank(rows, rows, groups, groups).rank == 1).all()
    return peaks[0], 1024 * getrusage(RUSAGE_SELF).ru_maxrss


@settings(max_examples=40)
@given(st.integers(1, 4), st.integers(0, 4), st.integers(1, 5))
def test_chance_is_the_mean_over_all_orders(right: int, wrong: int, depth: int) -> None:
    """Every placement of the right candidates is equally likely: count them all."""
    candidates, positives = right + wrong, torch.tensor([right])
    placements = list(combinations(range(1, candidates + 1), right))
    for k, hit in enumerate(chance.hit_curve(positives, candidates).tolist(), start=1):
        assert hit == pytest.approx(sum(places[0] <= k for places in placements) / len(placements))
    assert chance.mean_rank(positives, candidates) == pytest.approx(sum(p[0] for p in placements) / len(placements))
    precisions = [
        sum(number / place for number, place in enumerate(places, start=1) if place <= depth) / min(right, depth)
        for places in placements
    ]
    assert chance.average_precision(positives, candidates, depth) == pytest.approx(sum(precisions) / len(precisions))
    fewer = sum(precision * min(right, depth) / min(right + 2, depth) for precision in precisions) / len(precisions)
    assert chance.average_precision(positives, candidates, depth, relevant=right + 2) == pytest.approx(fewer)
    ordered = [[float(place in places) for place in range(1, candidates + 1)] for places in placements]
    mean = {name: sum(values) / len(values) for name, values in naive_values(ordered, depth).items()}
    assert chance.reciprocal_rank(positives, candidates) == pytest.approx(mean["reciprocal"])
    assert chance.precision(positives, candidates, depth) == pytest.approx(mean["precision"])
    assert chance.r_precision(positives, candidates) == pytest.approx(mean["R"])
    ideal = torch.tensor([sum(1 / math.log2(place + 2) for place in range(min(right, depth)))])
    assert chance.ndcg(positives.double(), ideal, candidates, depth) == pytest.approx(mean["nDCG"])


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3)), min_size=2, max_size=3))
def test_chance_of_the_rank_variance_is_the_mean_over_all_orders(kinds: list[tuple[int, int]]) -> None:
    """Each language has its own numbers of right and of wrong candidates, which are ordered independently."""
    firsts = [[places[0] for places in combinations(range(1, right + wrong + 1), right)] for right, wrong in kinds]
    spreads = [torch.tensor(ranks).double().var(correction=0) for ranks in product(*firsts)]
    positives = torch.tensor([[right for right, _ in kinds]])
    candidates = torch.tensor([[right + wrong for right, wrong in kinds]])
    assert chance.rank_variance(positives, candidates) == pytest.approx(float(torch.stack(spreads).mean()))


def test_chance_of_one_right_candidate_is_k_over_all() -> None:
    curve = chance.hit_curve(torch.ones(9, dtype=torch.long), 256)
    assert torch.allclose(curve, torch.arange(1, 257).double() / 256)
    assert chance.median_rank(torch.ones(9, dtype=torch.long), 256) == 128


def test_chance_over_queries_with_different_numbers_of_right_candidates_is_their_mean() -> None:
    curve = chance.hit_curve(torch.tensor([1, 5, 5]), 50)
    missed = [math.comb(49, 10) / math.comb(50, 10), *2 * [math.comb(45, 10) / math.comb(50, 10)]]
    assert float(curve[9]) == pytest.approx(1 - sum(missed) / 3)
