"""Ranks against a naive loop over the full matrix, and the rules that broken embeddings must not slip through."""

import math
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tercet.eval import chance
from tercet.eval.ranking import rank


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
    assert found.average_precision.tolist() == pytest.approx(precisions)
    assert len(set(ranks)) > 1


def test_candidates_in_another_order_have_the_same_ranks() -> None:
    queries, candidates, groups = unit(40, 8, seed=3), unit(40, 8, seed=4), torch.arange(40)
    shuffled = torch.randperm(40, generator=torch.Generator().manual_seed(5))
    straight = rank(queries, candidates, groups, groups)
    permuted = rank(queries, candidates[shuffled], groups, groups[shuffled])
    assert straight.rank.equal(permuted.rank)
    assert torch.allclose(straight.average_precision, permuted.average_precision)


@pytest.mark.parametrize("items", [3, 64, 257])
def test_constant_embeddings_have_the_last_rank(items: int) -> None:
    same = unit(1, 384, seed=6).expand(items, -1).contiguous()
    found = rank(same, same, torch.arange(items), torch.arange(items))
    assert set(found.rank.tolist()) == {items}
    assert found.average_precision.sum() == pytest.approx(sum(1 / items for _ in range(items)) if items <= 10 else 0)


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


def test_chance_of_one_right_candidate_is_k_over_all() -> None:
    curve = chance.hit_curve(torch.ones(9, dtype=torch.long), 256)
    assert torch.allclose(curve, torch.arange(1, 257).double() / 256)
    assert chance.median_rank(torch.ones(9, dtype=torch.long), 256) == 128


def test_chance_over_queries_with_different_numbers_of_right_candidates_is_their_mean() -> None:
    curve = chance.hit_curve(torch.tensor([1, 5, 5]), 50)
    missed = [math.comb(49, 10) / math.comb(50, 10), *2 * [math.comb(45, 10) / math.comb(50, 10)]]
    assert float(curve[9]) == pytest.approx(1 - sum(missed) / 3)
