"""Finds the shards that a config names: folders, patterns, braces, URLs, and lists of them.

Ids follow the order of the shards, so shards are always sorted.
"""

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from urllib.parse import urlsplit

from tercet.data_pipelines.shards.address import is_url, redacted
from tercet.data_pipelines.shards.patience import Patience
from tercet.data_pipelines.shards.transport import listed
from tercet.errors import UserError

BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}")
NAMES = "name a folder of .tar files, a pattern as `shards/{000..099}.tar`, or a list of them"


def find_shards(spec: str | Sequence[str]) -> list[str]:
    """Paths and URLs of the shards, sorted. A URL that ends in .tar is not checked; others are listed."""
    specs = [spec] if isinstance(spec, str) else spec
    shards = sorted(chain.from_iterable(_remote(one) if is_url(one) else _local(one) for one in specs))
    return _once(shards)


def unbraced(spec: str) -> list[str]:
    """`a{08..10}.tar` and `{a,b}.tar`, written out."""
    braces = BRACES.search(spec)
    if not braces:
        return [spec]
    first, last, names = braces.groups()
    words = names.split(",") if names else [f"{n:0{len(first)}d}" for n in range(int(first), int(last) + 1)]
    if not words:
        raise UserError(f"{braces[0]} in {redacted(spec)} counts down; write {{{last}..{first}}}")
    outer = (spec[: braces.start()] + word + spec[braces.end() :] for word in words)
    return list(dict.fromkeys(chain.from_iterable(map(unbraced, outer))))  # nested braces write some out twice


def _local(spec: str) -> list[str]:
    if Path(spec).is_dir():
        found = [str(path) for path in Path(spec).glob("[!.]*.tar")]
        if not found:
            raise UserError(f"the folder {spec} contains no *.tar shards; name the folder that does")
        return found
    paths = list(chain.from_iterable(_matching(name) for name in unbraced(spec)))
    missing = [path for path in paths if not Path(path).is_file()]
    if missing:
        others = f" (nor do {len(missing) - 1} more)" if len(missing) > 1 else ""
        problem = f"no file matches {spec}" if glob.has_magic(missing[0]) else f"{missing[0]} does not exist{others}"
        raise UserError(f"{problem}; name a folder, a table, or shards as `shards/{{000..099}}.tar`")
    return paths


def _matching(name: str) -> list[str]:
    """The path itself if it exists, even with wildcards in its name; otherwise the paths that it matches."""
    return [name] if os.path.exists(name) else glob.glob(name) or [name]


def _remote(spec: str) -> Iterable[str]:
    return chain.from_iterable([url] if _names_a_shard(url) else _shards_at(url) for url in unbraced(spec))


def _names_a_shard(url: str) -> bool:
    return "*" not in url and urlsplit(url).path.endswith(".tar")


def _shards_at(url: str) -> list[str]:
    found = [each for each in listed(url, Patience()) if _names_a_shard(each)]
    if not found:
        raise UserError(f"there are no *.tar shards at {redacted(url)}; {NAMES}")
    return found


def _once(shards: list[str]) -> list[str]:
    """Refuses a shard that is named twice, because its samples would count double."""
    places = Counter(shard if is_url(shard) else os.path.abspath(shard) for shard in shards)
    twice = [redacted(place) for place, times in places.items() if times > 1]
    if twice:
        others = f", and {len(twice) - 1} more" if len(twice) > 1 else ""
        raise UserError(f"the shard {twice[0]} is named twice{others}; name each shard once")
    return shards
