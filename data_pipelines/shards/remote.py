"""Samples of remote shards: opened with counts alone; each shard is fetched and indexed when it is first read.

Ids depend on the stated counts, so that no first pass over the network is needed. If a shard has fewer samples than
stated, the last ones are bad; if it has more, the others are left out, with a message.
"""

from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_128

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.shards.address import redacted
from tercet.data_pipelines.shards.build import index_shard
from tercet.data_pipelines.shards.cache import Cache
from tercet.data_pipelines.shards.counts import counted
from tercet.data_pipelines.shards.lookahead import Lookahead
from tercet.data_pipelines.shards.open import OpenShard, most_open
from tercet.data_pipelines.shards.patience import Unreachable
from tercet.data_pipelines.shards.record import Record
from tercet.data_pipelines.shards.tar import DamagedShard, Missing
from tercet.data_pipelines.source import Files
from tercet.errors import UserError
from tercet.main_process import say

FETCHERS = 4


class RemoteShards:
    """A source that fetches its shards; safe for threads, and small to send to other processes.

    With `missing="skip"`, the samples of shards that cannot be read are bad.
    """

    def __init__(self, counts: Mapping[str, int], cache: Cache, missing: Missing) -> None:
        self._counts, self._cache, self._missing = counts, cache, missing
        self._urls = tuple(counts)
        self._first = np.cumsum([0, *counts.values()]).tolist()
        self._open = lru_cache(most_open())(self._opened)
        self._lookahead = Lookahead(self._fetched, FETCHERS)

    def __reduce__(self) -> tuple[type["RemoteShards"], tuple[Mapping[str, int], Cache, Missing]]:
        return type(self), (self._counts, self._cache, self._missing)

    def __len__(self) -> int:
        return int(self._first[-1])

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        return np.array(list(self._counts.values()), dtype=np.int64)

    @property
    def fingerprint(self) -> str:
        state = xxh3_128()
        for url, count in self._counts.items():
            state.update(f"{redacted(url)}\0{count}\0".encode())
        return str(state.hexdigest())

    @property
    def snapshot(self) -> str:
        return self.fingerprint

    def shard(self, id: int) -> str:
        return redacted(self._urls[self._place(id)[0]])

    def path(self, id: int, modality: str) -> str:
        return self.shard(id)

    def key(self, id: int) -> str:
        """The key of a sample; its number if the shard cannot be read."""
        shard, row = self._place(id)
        opened = self._open(shard)
        if isinstance(opened, BadSample) or row >= len(opened.index):
            return f"#{row}"
        return opened.key(row)

    def read(self, ids: Sequence[int], wanted: Collection[str]) -> list[Files | BadSample]:
        names = frozenset(wanted)
        return [self._one(*self._place(id), names) for id in ids]

    def size(self, id: int, modality: str) -> int:
        return 0

    def prefetch(self, ids: Sequence[int]) -> None:
        """Starts to fetch the shards of these samples."""
        shards = dict.fromkeys(self._place(id)[0] for id in ids)
        self._lookahead.ask(shard for shard in shards if not self._cache.place(self._urls[shard]).exists())

    def _one(self, shard: int, row: int, wanted: frozenset[str]) -> Files | BadSample:
        opened = self._open(shard)
        if isinstance(opened, BadSample):
            return opened
        if row >= len(opened.index):
            return BadSample("missing from its shard")
        try:
            return opened.read(row, wanted)
        except BadSample as bad:
            return bad

    def _place(self, id: int) -> tuple[int, int]:
        shard = bisect_right(self._first, id) - 1
        return shard, id - self._first[shard]

    def _opened(self, shard: int) -> OpenShard | BadSample:
        try:
            opened = OpenShard(self._fetched(shard))
        except BadSample as bad:
            return bad
        except (Unreachable, DamagedShard) as error:
            if self._missing == "fail":
                raise
            return BadSample("shard: damaged" if isinstance(error, DamagedShard) else "shard: cannot be fetched")
        surplus = len(opened.index) - self._counts[self._urls[shard]]
        if surplus > 0:
            say(f"{redacted(self._urls[shard])} contains {surplus} more samples than are stated; they are left out")
        return opened

    def _fetched(self, shard: int) -> Record:
        return fetch_record(self._urls[shard], self._cache)


def open_remote(urls: Sequence[str], cache: Cache, *, missing: Missing = "fail", max_bad: float = 0.01) -> RemoteShards:
    """The samples of remote shards. A shard without a stated count is fetched at once, to count it.

    With `missing="skip"`, a shard that cannot be read has no samples; more than a share of such shards is an error.
    """

    def count(url: str) -> int | None:
        try:
            return fetch_record(url, cache).samples
        except (Unreachable, DamagedShard) as error:
            if missing == "fail":
                raise
            say(f"skipped: {error}")
            return None

    with cache.alone("counts"):
        counts = counted(urls, cache, count)
    lost = len(urls) - len(counts)
    if lost > max_bad * len(urls):
        raise UserError(f"{lost} of {len(urls)} shards cannot be read; fix them, or raise data.max_bad = {max_bad:g}")
    if not sum(counts.values()):
        raise UserError(f"{redacted(urls[0])} and the other shards contain no samples")
    return RemoteShards(counts, cache, missing)


def fetch_record(url: str, cache: Cache) -> Record:
    """The index of a remote shard; its copy is in the cache afterwards."""
    indexed = index_shard(str(cache.fetch(url)))
    if isinstance(indexed, DamagedShard):
        cache.forget(url)
        raise DamagedShard(redacted(url), indexed.what)
    return indexed
