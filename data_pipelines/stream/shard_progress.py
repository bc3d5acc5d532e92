"""How far a rank has come, in whole shards, while the samples of several are under way at once."""

from collections import Counter
from collections.abc import Iterable, Iterator

from tercet.data_pipelines.stream.sequence import ShardTurn


class Passage:
    """`place` is the first one in the sequence of shards whose samples have not all been handed out.

    One thread closes turns, and another hands out: each writes only what is its own.
    """

    def __init__(self, turns: Iterator[ShardTurn]) -> None:
        self._places = (turn.place for turn in turns)
        self._totals: dict[int, int] = {}
        self._handed: Counter[int] = Counter()
        self.place = next(self._places)

    def close(self, turn: ShardTurn, total: int) -> None:
        """The shard has been read, and gave so many samples."""
        self._totals[turn.place] = total

    def hand_out(self, places: Iterable[int]) -> None:
        """Samples of these places have gone to the trainer, or to the ledger of bad ones."""
        self._handed.update(places)
        while self._totals.get(self.place) == self._handed[self.place]:
            del self._totals[self.place], self._handed[self.place]
            self.place = next(self._places)
