"""How many samples remote shards contain, before any of them is fetched.

img2dataset writes `00000_stats.json` beside `00000.tar`. A number that was read there, or counted by indexing a shard,
is kept in the cache. The first number stays valid, because ids depend on it.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit, urlunsplit

from tercet.data_pipelines.progress import with_progress
from tercet.data_pipelines.shards.cache import Cache
from tercet.data_pipelines.shards.patience import Patience, Refused
from tercet.data_pipelines.shards.transport import read
from tercet.main_process import say

READERS = 32  # threads: the answers are small, and the network is far
COUNTERS = 4  # threads that fetch whole shards


def remote_counts(urls: Sequence[str], patience: Patience) -> list[int | None]:
    """The number stated beside each shard, or None."""
    with ThreadPoolExecutor(READERS) as threads:
        return list(threads.map(lambda url: _stated(url, patience), urls))


def counted(urls: Sequence[str], cache: Cache, count: Callable[[str], int | None]) -> dict[str, int]:
    """Samples by shard, in the order given: numbers in the cache, stated numbers, and then those that `count` finds."""
    tally = CountCache(cache)
    known = tally.known(urls)
    new = [url for url in urls if url not in known]
    stated = {url: n for url, n in zip(new, remote_counts(new, cache.patience), strict=True) if n is not None}
    tally.keep(stated)
    known |= stated
    silent = [url for url in new if url not in stated]
    with ThreadPoolExecutor(COUNTERS) as threads:
        for url, n in zip(silent, _shown(threads.map(count, silent), len(silent)), strict=True):
            if n is not None:
                tally.keep({url: n})
                known[url] = n
    return {url: known[url] for url in urls if url in known}


class CountCache:
    """The numbers in a cache, a line for each shard."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._path = cache.folder / "counts.jsonl"

    def known(self, urls: Iterable[str]) -> dict[str, int]:
        kept = dict(reversed(self._lines()))
        names = ((url, self._cache.place(url).name) for url in urls)
        return {url: kept[name] for url, name in names if name in kept}

    def keep(self, counts: Mapping[str, int]) -> None:
        lines = (json.dumps([self._cache.place(url).name, count]) for url, count in counts.items())
        with self._path.open("a") as file:
            file.write(
                "".join("\n" + line for line in lines)
            )  # so that a line that was cut short does not spoil the next one

    def _lines(self) -> list[tuple[str, int]]:
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        return [(name, count) for name, count in (json.loads(line) for line in lines if line.endswith("]"))]


def _shown(counts: Iterable[int | None], total: int) -> Iterable[int | None]:
    if total:
        say(f"{total} shards have no file that states their number of samples; they are fetched first, to count them")
    return with_progress(counts, "fetching shards", total)


def _stated(url: str, patience: Patience) -> int | None:
    try:
        stats = json.loads(read(_beside(url), patience))
    except (Refused, ValueError):  # some servers send a page instead of an error
        return None
    return successes(stats)


def successes(stats: object) -> int | None:
    """The number of samples that img2dataset wrote, if the file states it."""
    count = stats.get("successes") if isinstance(stats, dict) else None
    return count if isinstance(count, int) and count >= 0 else None


def _beside(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path.removesuffix(".tar") + "_stats.json"))
