"""Which shards a rank has finished, while it works on samples of several shards at once."""

from collections import Counter
from collections.abc import Iterable, Iterator

from tercet.data_pipelines.stream.sequence import ShardTurn


class ShardProgress:
    """`place`: the first shard of the sequence that has samples left to hand out.

    One thread calls `close`, and another calls `hand_out`. Each writes only its own attributes.
    """

    def __init__(self, turns: Iterator[ShardTurn]) -> None:
        self._places = (turn.place for turn in turns)
        self._totals: dict[int, int] = {}
        self._handed: Counter[int] = Counter()
        self.place = next(self._places)

    def close(self, turn: ShardTurn, total: int) -> None:
        """The shard has been read to its end; it has `total` samples."""
        self._totals[turn.place] = total

    def hand_out(self, places: Iterable[int]) -> None:
        """Samples of the shards at these places went to the trainer, or were counted as bad."""
        self._handed.update(places)
        while self._totals.get(self.place) == self._handed[self.place]:
            del self._totals[self.place], self._handed[self.place]
            self.place = next(self._places)
