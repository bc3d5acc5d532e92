"""The samples of one rank as they come in, undecoded, shard after shard and without end."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from tercet.data_pipelines.bad_samples import BadSample, Fault
from tercet.data_pipelines.shards.address import is_url, redacted
from tercet.data_pipelines.shards.patience import Patience
from tercet.data_pipelines.shards.tar import Missing
from tercet.data_pipelines.source import Files
from tercet.data_pipelines.stream.opened import stated_samples
from tercet.data_pipelines.stream.sequence import Turn
from tercet.data_pipelines.stream.shard import samples_of
from tercet.data_pipelines.stream.tar import Damage
from tercet.errors import UserError

LOST = ""  # the key of what nobody knows the key of
MEND = "write or fetch it again, or take it out of the data"


@dataclass(frozen=True)
class Item:
    """A sample on its way, with its files or what is wrong with it."""

    turn: Turn
    key: str
    files: Files | BadSample

    @property
    def id(self) -> int:
        return id_of(self.turn.shard, self.key)

    def fault(self, reason: str) -> Fault:
        return Fault(redacted(self.turn.shard), self.key, self.id, reason)


def id_of(shard: str, key: str) -> int:
    """63 bits of a hash of the shard's own name and the key: stable wherever the shards lie."""
    path = urlsplit(shard).path if is_url(shard) else shard
    named = f"{PurePosixPath(path).name}/{key}".encode("utf-8", "surrogateescape")
    return int.from_bytes(blake2b(named, digest_size=8).digest(), "big") >> 1


class Reader:
    """Reads shard after shard, and says of each one that it is through with how many samples it gave."""

    def __init__(self, shards: Sequence[str], wanted: frozenset[str], missing: Missing, patience: Patience) -> None:
        self.shards, self.wanted, self.missing, self.patience = shards, wanted, missing, patience

    def items(self, turns: Iterable[Turn], through: Callable[[Turn, int], None]) -> Iterator[Item]:
        fruitless = 0
        for turn in turns:
            count = fruit = 0
            for item in self._turn(turn):
                count += 1
                fruit += item.key != LOST
                yield item
            through(turn, count)
            fruitless = 0 if fruit else fruitless + 1
            if fruitless > len(self.shards) * turn.shares:
                raise UserError(f"none of the {len(self.shards)} shards gives a sample; {MEND}")

    def _turn(self, turn: Turn) -> Iterator[Item]:
        number = -1
        try:
            for number, (key, files) in enumerate(samples_of(turn.shard, self.wanted, self.patience)):
                if number % turn.shares == turn.share:
                    yield Item(turn, key, files)
        except Damage as damage:
            if self.missing == "fail":
                raise UserError(f"shard {redacted(turn.shard)} is damaged: {damage.detail}; {MEND}") from damage
            lost = Item(turn, LOST, BadSample(damage.reason))
            yield from [lost] * self._lost(turn, number + 1)

    def _lost(self, turn: Turn, came: int) -> int:
        """How many of this rank's samples are missing; where nobody knows, one stands for them."""
        stated = stated_samples(turn.shard, self.patience) or 0
        return max(1, (stated - came) // turn.shares)
