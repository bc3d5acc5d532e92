"""The samples of a source that a run trains on: all, or those of its list.

Substitutes for broken samples, and sounds to mix into others, are drawn from them.
"""

import numpy as np

from tercet.data_pipelines.plans.listed import kept_in
from tercet.data_pipelines.plans.order import Ints
from tercet.data_pipelines.plans.sample_list import SampleList


class Members:
    """Numbers the samples from 0 in the order of their ids. Shape letters: S shards of the source."""

    def __init__(self, counts: Ints, listed: SampleList | None = None) -> None:
        self._listed = listed
        self._end_S = np.cumsum(counts)
        self._begin_S = self._end_S - counts
        members_S = counts if listed is None else kept_in(counts, listed.times_N)
        self._last_S = np.cumsum(members_S)
        self._first_S = self._last_S - members_S

    def __len__(self) -> int:
        return int(self._last_S[-1])

    def near(self, id: int) -> tuple[int, int]:
        """The numbers of the members in the sample's shard, as begin and end."""
        shard = np.searchsorted(self._end_S, id, side="right")
        return int(self._first_S[shard]), int(self._last_S[shard])

    def number(self, id: int) -> int:
        """The number of the member with this id: how many members have a smaller id."""
        if self._listed is None:
            return id
        shard = np.searchsorted(self._end_S, id, side="right")
        return int(self._first_S[shard] + np.count_nonzero(self._listed.times_N[self._begin_S[shard] : id]))

    def id(self, number: int) -> int:
        if self._listed is None:
            return number
        shard = np.searchsorted(self._last_S, number, side="right")
        begin = int(self._begin_S[shard])
        ids = np.flatnonzero(self._listed.times_N[begin : self._end_S[shard]])
        return begin + int(ids[number - self._first_S[shard]])
