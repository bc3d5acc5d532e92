from collections import Counter
from itertools import islice, takewhile

import pytest

from tercet.data_pipelines.stream.sequence import ShardTurn, turns
from tercet.data_pipelines.stream.shard_progress import ShardProgress

SIZES = {f"{n}.tar": n + 3 for n in range(7)}


def ranks(shards: list[str], world: int, start: int, stop: int) -> list[list[ShardTurn]]:
    """The turns of each rank between the places `start` and `stop`."""
    return [
        list(takewhile(lambda turn: turn.place < stop, turns(shards, 3, rank, world, start))) for rank in range(world)
    ]


@pytest.mark.parametrize("shards", [1, 3, 7])
@pytest.mark.parametrize("world", [1, 2, 4, 5, 16])
def test_every_epoch_gives_each_sample_to_one_rank(shards: int, world: int) -> None:
    names = list(SIZES)[:shards]
    seen = Counter(
        (turn.epoch, turn.shard, number)
        for own in ranks(names, world, 0, 4 * shards)
        for turn in own
        for number in range(SIZES[turn.shard])
        if number % turn.shares == turn.share
    )
    assert seen == Counter((epoch, name, n) for epoch in range(4) for name in names for n in range(SIZES[name]))


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_a_resumed_sequence_continues_the_uninterrupted_one_on_any_number_of_ranks(world: int) -> None:
    names = list(SIZES)
    straight = [(turn.place, turn.epoch, turn.shard) for turn in islice(turns(names, 3, 0, 1, 0), 30)]
    assert sorted({turn.shard for turn in islice(turns(names, 3, 0, 1, 0), 7)}) == names
    resumed = {(turn.place, turn.epoch, turn.shard) for own in ranks(names, world, 11, 30) for turn in own}
    assert sorted(resumed) == straight[11:]


def test_each_epoch_and_each_seed_has_its_own_order() -> None:
    names = list(SIZES)
    orders = {seed: [turn.shard for turn in islice(turns(names, seed, 0, 1, 0), 70)] for seed in (3, 4)}
    assert orders[3] != orders[4]
    assert len({tuple(orders[3][start : start + 7]) for start in range(0, 70, 7)}) > 5


def test_every_rank_sees_the_only_sample_of_a_shard() -> None:
    """One sample, four ranks: each rank sees it once in four epochs."""
    shares = [[turn.share for turn in own] for own in ranks(["0.tar"], 4, 0, 8)]
    assert all(sorted(own) == [0, 0, 1, 1, 2, 2, 3, 3] for own in shares)


def test_a_shard_is_finished_when_all_of_its_samples_were_handed_out() -> None:
    own = list(islice(turns(list(SIZES), 3, 1, 2, 0), 3))
    progress = ShardProgress(iter(own))
    progress.hand_out([own[0].place, own[1].place])
    assert progress.place == 1  # the size of the first shard is not known yet
    progress.close(own[0], 2)
    progress.close(own[1], 1)
    progress.hand_out([])
    assert progress.place == 1
    progress.hand_out([own[0].place])
    assert progress.place == 5
