"""The progress of a rank in whole shards, while it works on samples of several shards at once."""

from collections import Counter
from collections.abc import Iterable, Iterator

from tercet.data_pipelines.stream.sequence import ShardTurn


class Passage:
    """`place` is the first one in the sequence of shards whose samples have not all been handed out.

    One thread closes turns, and another hands out samples: each writes only its own attributes.
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
        """Samples of these places were handed to the trainer, or counted as bad."""
        self._handed.update(places)
        while self._totals.get(self.place) == self._handed[self.place]:
            del self._totals[self.place], self._handed[self.place]
            self.place = next(self._places)
