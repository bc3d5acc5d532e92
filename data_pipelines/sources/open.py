"""Opens what a config names. Shards on disk are indexed first, shards behind URLs are fetched when they are read, and
tables and folders of files are read in place."""

from collections.abc import Sequence

from tercet.data_pipelines.config import DataConfig, SplitConfig
from tercet.data_pipelines.manifests.find import is_manifest
from tercet.data_pipelines.manifests.reading import PLAIN, Reading
from tercet.data_pipelines.manifests.source import open_manifest_source
from tercet.data_pipelines.shards.address import is_url, redacted
from tercet.data_pipelines.shards.cache import Cache
from tercet.data_pipelines.shards.find import find_shards
from tercet.data_pipelines.shards.read import open_shards
from tercet.data_pipelines.shards.remote import open_remote
from tercet.data_pipelines.shards.tar import Missing
from tercet.data_pipelines.source import Source
from tercet.distributed import World
from tercet.errors import UserError

GIGABYTE = 10**9
NAMED = "their samples name their files by extension; leave it out, or name a table"
OF_TABLES = {
    **dict.fromkeys(("image", "audio", "text", "key", "templates"), NAMED),
    "part": "they are split when they are packed; name those that are held out in data.val, or a table",
}


def open_first(data: DataConfig, split: SplitConfig, world: World) -> Source:
    """Ranks index shards side by side; tables and folders are indexed by the first rank alone. A collective."""
    ahead = world.first or not is_manifest(split.source)
    source = open_split(data, split) if ahead else None
    world.wait_for_all()
    return open_split(data, split) if source is None else source


def open_split(data: DataConfig, split: SplitConfig) -> Source:
    """One source as the config wants it opened."""
    check_options(split)
    cache = Cache(limit_bytes=round(data.cache_gb * GIGABYTE))
    return open_source(split.source, missing=data.missing, max_bad=data.max_bad, cache=cache, reading=split.reading)


def check_options(split: SplitConfig) -> None:
    """Refuses options that do not apply to this kind of source."""
    said = [name for name in OF_TABLES if getattr(split, name)]
    if said and not is_manifest(split.source):
        first = split.source if isinstance(split.source, str) else split.source[0]
        raise UserError(f"`{said[0]}` is said of {first}, which are shards: {OF_TABLES[said[0]]}")


def open_source(
    spec: str | Sequence[str],
    *,
    missing: Missing = "fail",
    max_bad: float = 0.01,
    cache: Cache | None = None,
    reading: Reading = PLAIN,
) -> Source:
    """`reading` says how tables and folders are read; shards say that themselves."""
    if is_manifest(spec):
        return open_manifest_source(spec, reading, (cache or Cache()).limit_bytes)
    shards = find_shards(spec)
    remote = [shard for shard in shards if is_url(shard)]
    if not remote:
        return open_shards(shards, missing=missing, max_bad=max_bad)
    if len(remote) < len(shards):
        raise UserError(
            f"{redacted(remote[0])} is behind a URL and other shards beside it are on disk; "
            "name them as two sources, each with its own weight"
        )
    return open_remote(remote, cache or Cache(), missing=missing, max_bad=max_bad)
