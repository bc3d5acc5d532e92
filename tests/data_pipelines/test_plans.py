"""Quotas against arithmetic by hand and by counting; plans as files that cannot change."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.data_pipelines.plans.mixture import apportion, check_weights, quotas
from tercet.data_pipelines.plans.plan import Plan, SourceShare, read_plan
from tercet.errors import UserError


def plan(*shares: tuple[float, bool, int], mix: str = "within_batches") -> Plan:
    return Plan(7, 16, 8, mix, tuple(SourceShare(f"s{i}", *share, f"f{i}") for i, share in enumerate(shares)))


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=6), st.integers(0, 5000))
def test_apportioned_parts_differ_from_their_share_by_less_than_one(weights: Sequence[float], total: int) -> None:
    parts = apportion(weights, total)
    assert sum(parts) == total
    assert all(abs(part - total * weight / sum(weights)) < 1 for part, weight in zip(parts, weights, strict=True))


def test_quotas_within_batches() -> None:
    mixed = plan((3, True, 1000), (1, True, 10), (1, True, 10))
    assert quotas(mixed, [0, 0, 0], 10) == [6, 2, 2]
    assert quotas(mixed, [10**9, 5, 77], 256) == [154, 51, 51]


@given(st.floats(0.001, 1), st.integers(2, 300), st.sampled_from(["within_batches", "between_batches"]))
def test_a_weight_is_refused_only_if_its_source_would_give_no_sample(weight: float, batch_size: int, mix: str) -> None:
    mixed, at = plan((1, True, 10), (weight, True, 10), mix=mix), [0, 0]
    for _ in range(100):
        at = [had + more for had, more in zip(at, quotas(mixed, at, batch_size), strict=True)]
    if at[1]:
        check_weights(mixed, batch_size)
    else:
        with pytest.raises(UserError, match=r"data\.train\.s1\.weight is so small"):
            check_weights(mixed, batch_size)


def test_other_sources_fill_the_share_of_a_source_that_ended() -> None:
    mixed = plan((2, False, 25), (1, True, 10), (1, False, 6))
    at, given_ = [0, 0, 0], []
    for _ in range(6):
        given_.append(quotas(mixed, at, 8))
        at = [had + more for had, more in zip(at, given_[-1], strict=True)]
    assert [sum(batch) for batch in given_] == [8] * 6
    assert at[0] == 25
    assert at[2] == 6
    assert given_[:3] == [[4, 2, 2]] * 3
    assert given_[-1] == [3, 5, 0]


def test_there_is_no_batch_that_cannot_be_filled() -> None:
    assert quotas(plan((1, False, 10), (1, False, 4)), [8, 4], 4) == []
    assert quotas(plan((1, False, 10), mix="between_batches"), [8], 4) == []


def test_a_source_that_no_longer_repeats_gives_no_more_samples() -> None:
    for mix in ("within_batches", "between_batches"):
        mixed = plan((1, False, 10), (1, True, 10), mix=mix)
        assert quotas(mixed, [32, 4], 4) == [0, 4]


def test_batches_of_a_single_source_take_turns_in_proportion() -> None:
    mixed = plan((3, True, 1000), (1, True, 10), mix="between_batches")
    at, turns = [0, 0], []
    for _ in range(300):
        batch = quotas(mixed, at, 4)
        turns.append(batch.index(4))
        at = [had + more for had, more in zip(at, batch, strict=True)]
    assert [turns[i : i + 100].count(0) for i in (0, 100, 200)] == [75] * 3
    assert turns[:100] != turns[100:200]
    assert 1 in turns[:20]


def test_a_source_that_cannot_fill_a_batch_is_skipped() -> None:
    mixed = plan((1, False, 10), (1, True, 10), mix="between_batches")
    assert all(quotas(mixed, [8, 4 * at], 4) == [0, 4] for at in range(20))


def test_a_plan_is_a_file_named_by_its_digest(tmp_path: Path) -> None:
    first = plan((1, True, 10))
    path = first.write(tmp_path)
    assert path.stem == first.digest
    assert json.loads(path.read_text())["shares"][0]["samples"] == 10
    written = path.stat().st_mtime_ns
    assert first.write(tmp_path) == path
    assert path.stat().st_mtime_ns == written
    assert read_plan(tmp_path, first.digest) == first
    assert replace(first, window=9).digest != first.digest
    with pytest.raises(UserError, match="names the plan"):
        read_plan(tmp_path, "0" * 16)


def test_weights_may_change_on_resume_and_data_may_not() -> None:
    first = plan((1, True, 10), (1, True, 20))
    heavier = replace(first, shares=(replace(first.shares[0], weight=5), first.shares[1]))
    heavier.follows(first, {"s0", "s1"})
    changed = replace(first, shares=(first.shares[0], replace(first.shares[1], fingerprint="other", samples=21)))
    with pytest.raises(UserError, match=r"data of `s1` changed .*20 samples then, 21 now"):
        changed.follows(first, {"s0", "s1"})
    changed.follows(first, {"s0"})  # the other begins


def test_a_source_ends_after_its_last_full_batch() -> None:
    """If exactly one batch is left, there is one more; with one sample less, there is none."""
    for mix in ("within_batches", "between_batches"):
        mixed = plan((1, False, 12), mix=mix)
        assert quotas(mixed, [8], 4) == [4]
        assert quotas(mixed, [9], 4) == []
    both = plan((1, False, 12), (1, False, 8), mix="between_batches")
    assert quotas(both, [8, 8], 4) == [4, 0]
    assert quotas(plan((1, False, 12), (1, False, 8)), [10, 6], 4) == [2, 2]
