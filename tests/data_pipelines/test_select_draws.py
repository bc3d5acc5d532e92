"""Rules that draw: Gumbel top-k against enumeration, and soft caps against a loop over rounds and samples."""

from collections import Counter
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from tercet.data_pipelines.curate.chance import gumbel, items
from tercet.data_pipelines.curate.rules import soft_cap
from tercet.errors import UserError
from tests.data_pipelines.scored import chosen, decision, kept, scored

SCORES = [0.0, 0.7, -0.5, 1.3]


def test_the_largest_with_gumbel_noise_are_drawn_like_one_after_the_other() -> None:
    """The share of each ordered pair against its probability: p(i) p(j) / (1 - p(i)), over 20,000 seeds."""
    p = np.exp(SCORES) / np.exp(SCORES).sum()
    item_N, seeds = items("data", np.arange(4)), 20_000
    orders = (np.argsort(-(np.array(SCORES) + gumbel("sample", seed, item_N)))[:2] for seed in range(seeds))
    drawn = Counter(tuple(order.tolist()) for order in orders)
    for one, other in permutations(range(4), 2):
        expected = p[one] * p[other] / (1 - p[one])
        assert abs(drawn[one, other] / seeds - expected) < 5 * (expected / seeds) ** 0.5


def test_a_sample_is_the_top_of_score_by_temperature_plus_noise(tmp_path: Path) -> None:
    score_N = np.random.default_rng(1).normal(size=300)
    table = scored(tmp_path, {"g": {"score": score_N.tolist()}})
    rule = {"by": "g.score", "count": 100, "temperature": 0.5}
    for seed in (0, 7):
        value_N = score_N / 0.5 + gumbel("sample", seed, items("data", np.arange(300)))
        expected = sorted(np.argsort(-value_N)[:100].tolist())
        assert kept(table, [{"sample": rule | {"seed": seed}}], f"seed{seed}") == expected
    best = sorted(np.argsort(-score_N)[:100].tolist())
    assert kept(table, [{"sample": rule | {"temperature": 1e-6}}], "cold") == best


def naive(scores: list[float | None], draws: int, round: int, penalty: float, cap: int) -> list[int]:
    """A loop over rounds and samples, with the same noise."""
    times = [0] * len(scores)
    item_N = items("data", np.arange(len(scores)))
    for turn in range(-(-draws // round)):
        noise = gumbel("soft_cap", 3, item_N, turn)
        value = {
            id: score - penalty * times[id] + noise[id]
            for id, score in enumerate(scores)
            if score is not None and times[id] < cap
        }
        for id in sorted(value, key=lambda id: -value[id])[: min(round, draws - turn * round)]:
            times[id] += 1
    return times


@pytest.mark.parametrize("block", [7, 2**20])
@pytest.mark.parametrize("cap", [2, 1000])
def test_soft_cap_sampling_is_that_of_a_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, cap: int
) -> None:
    monkeypatch.setattr(soft_cap, "BLOCK", block)
    drawn = np.random.default_rng(2).normal(size=60).tolist()
    scores = [None if id % 9 == 0 else score for id, score in enumerate(drawn)]
    table = scored(tmp_path, {"flyt": {"score": scores}})
    rule = {"by": "flyt.score", "count": 70, "round": 8, "penalty": 0.4, "cap": cap, "seed": 3}
    found = chosen(table, [{"soft_cap": rule}])
    times = decision(table)["count"]
    assert times == naive(scores, 70, 8, 0.4, cap)
    assert (sum(times), found.epoch, found.kept) == (70, 70, sum(count > 0 for count in times))
    assert 1 < max(times) <= cap


def test_soft_caps_continue_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = scored(tmp_path, {"flyt": {"score": np.random.default_rng(4).normal(size=40).tolist()}})
    rule = {"soft_cap": {"by": "flyt.score", "fraction": 2.5, "round": 5}}
    chosen(table, [rule], "whole")
    monkeypatch.setattr(soft_cap, "SAVED_EVERY", 3)
    draw, turns = soft_cap.SoftCapDraws.draw, list[int]()

    def killed(self: soft_cap.SoftCapDraws, turn: int, count: int) -> None:
        turns.append(turn)
        if turn == 11 and len(turns) < 13:
            raise KeyboardInterrupt
        draw(self, turn, count)

    monkeypatch.setattr(soft_cap.SoftCapDraws, "draw", killed)
    with pytest.raises(KeyboardInterrupt):
        chosen(table, [rule], "killed")
    chosen(table, [rule], "killed")
    assert turns == [*range(12), *range(9, 20)]
    assert decision(table, "killed") == decision(table, "whole")


def test_a_round_that_draws_too_many_is_refused(tmp_path: Path) -> None:
    table = scored(tmp_path, {"flyt": {"score": [1.0, 2.0, None]}})
    with pytest.raises(UserError, match="round 1 draws 3 samples, but only 2 have a score and may be drawn; lower"):
        chosen(table, [{"soft_cap": {"by": "flyt.score", "count": 3}}])
