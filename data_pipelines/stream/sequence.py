"""Which shards a rank reads, and in which order: a pure function of the seed, without end.

All epochs, each with its own order of the shards, make one sequence. Rank r of W reads the places ≡ r (mod W) of it. A
rank that has read its shards of an epoch begins the next epoch without waiting. If there are fewer shards than ranks,
several ranks read the same shard, and each takes every n-th sample.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count

from tercet.data_pipelines.seeding import keyed


@dataclass(frozen=True)
class ShardTurn:
    """A shard at its place in the sequence. The rank takes the samples number `share`, `share + shares`, …"""

    place: int
    epoch: int
    shard: str
    share: int = 0
    shares: int = 1


def turns(shards: Sequence[str], seed: int, rank: int, world: int, start: int) -> Iterator[ShardTurn]:
    """The turns of one rank, beginning at place `start` of the sequence."""
    order = lru_cache(maxsize=2)(lambda epoch: keyed("shards", seed, epoch).permutation(len(shards)).tolist())
    shares = -(-world // len(shards))
    first = start * shares
    for turn in count(first + (rank - first) % world, world):
        place, share = divmod(turn, shares)
        epoch, nth = divmod(place, len(shards))
        # the share changes in each epoch: otherwise a rank would always read the same part of a small shard
        yield ShardTurn(place, epoch, shards[order(epoch)[nth]], (share + epoch) % shares, shares)
