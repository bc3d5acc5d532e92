"""Which shards a rank reads, and in which order: a pure function of the seed, without end.

The shards of epoch after epoch, each epoch in an order of its own, make one sequence; rank r of W takes the places ≡ r
(mod W). A rank that has read its shards of an epoch begins the next epoch, and never waits. If there are fewer shards
than ranks, several ranks read the same shard, and each takes every n-th sample.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count

from tercet.data_pipelines.seeding import keyed


@dataclass(frozen=True)
class ShardTurn:
    """A shard at its place in the sequence, of whose samples a rank takes the n-th of every `shares`, n = `share`."""

    place: int
    epoch: int
    shard: str
    share: int = 0
    shares: int = 1


def turns(shards: Sequence[str], seed: int, rank: int, world: int, start: int) -> Iterator[ShardTurn]:
    """The turns of one rank, from a place of the sequence on."""
    order = lru_cache(maxsize=2)(lambda epoch: keyed("shards", seed, epoch).permutation(len(shards)).tolist())
    shares = -(-world // len(shards))
    first = start * shares
    for turn in count(first + (rank - first) % world, world):
        place, share = divmod(turn, shares)
        epoch, nth = divmod(place, len(shards))
        # changes in each epoch, or a rank might always read the same part of a small shard
        yield ShardTurn(place, epoch, shards[order(epoch)[nth]], (share + epoch) % shares, shares)
