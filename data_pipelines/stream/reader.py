"""Reads the samples of one rank, undecoded, shard after shard and without end."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import PurePosixPath

from tercet.data_pipelines.bad_samples import BadSample, Fault
from tercet.data_pipelines.shards.address import redacted
from tercet.data_pipelines.shards.patience import Patience
from tercet.data_pipelines.shards.tar import Missing
from tercet.data_pipelines.source import Files
from tercet.data_pipelines.stream.reconnecting import stated_samples
from tercet.data_pipelines.stream.sequence import ShardTurn
from tercet.data_pipelines.stream.shard import samples_of
from tercet.data_pipelines.stream.tar import Damage
from tercet.errors import UserError

NO_KEY = ""  # of a sample that a damaged shard lost
FIX = "Write or fetch it again, or remove it from the data"


@dataclass(frozen=True)
class StreamItem:
    """A sample that is not decoded yet: its files, or why it is bad."""

    turn: ShardTurn
    key: str
    id: int
    files: Files | BadSample

    def fault(self, reason: str) -> Fault:
        return Fault(redacted(self.turn.shard), self.key, self.id, reason)


def id_of(shard: str, key: str, parts: int = 1) -> int:
    """63 bits of a hash of the key and the end of the shard's path, so that shards may move to another folder."""
    name = "/".join([*_parts(shard)[-parts:], key]).encode("utf-8", "surrogateescape")
    return int.from_bytes(blake2b(name, digest_size=8).digest(), "big") >> 1


def distinguishing_parts(shards: Sequence[str]) -> int:
    """How many parts at the end of the paths make them differ: more than one if several folders have a `00000.tar`."""
    paths = list(map(_parts, shards))
    longest = max(map(len, paths))
    return next((n for n in range(1, longest) if len({path[-n:] for path in paths}) == len(paths)), longest)


def _parts(shard: str) -> tuple[str, ...]:
    return PurePosixPath(redacted(shard)).parts


class ShardReader:
    """Reads shard after shard. At the end of each, it calls `finished` with the number of samples it gave."""

    def __init__(self, shards: Sequence[str], wanted: frozenset[str], missing: Missing, patience: Patience) -> None:
        self.shards, self.wanted, self.missing, self.patience = shards, wanted, missing, patience
        self._parts = distinguishing_parts(shards)

    def items(self, turns: Iterable[ShardTurn], finished: Callable[[ShardTurn, int], None]) -> Iterator[StreamItem]:
        empty_turns = 0
        for turn in turns:
            count = usable = 0
            for item in self._turn(turn):
                count += 1
                usable += item.key != NO_KEY
                yield item
            finished(turn, count)
            empty_turns = 0 if usable else empty_turns + 1
            if empty_turns > len(self.shards) * turn.shares:
                raise UserError(
                    f"none of the {len(self.shards)} shards contains a usable sample. "
                    "Write or fetch them again, or name other shards"
                )

    def _turn(self, turn: ShardTurn) -> Iterator[StreamItem]:
        number = -1
        try:
            for number, (key, files) in enumerate(samples_of(turn.shard, self.wanted, self.patience)):
                if number % turn.shares == turn.share:
                    yield self._item(turn, key, files)
        except Damage as damage:
            if self.missing == "fail":
                raise UserError(f"shard {redacted(turn.shard)} is damaged: {damage.detail}. {FIX}") from damage
            lost = self._item(turn, NO_KEY, BadSample(damage.reason))
            yield from [lost] * self._lost_count(turn, number + 1)

    def _item(self, turn: ShardTurn, key: str, files: Files | BadSample) -> StreamItem:
        return StreamItem(turn, key, id_of(turn.shard, key, self._parts), files)

    def _lost_count(self, turn: ShardTurn, read: int) -> int:
        """How many samples of this rank a damaged shard lost; one if the number is unknown."""
        stated = stated_samples(turn.shard, self.patience) or 0
        return max(1, (stated - read) // turn.shares)
