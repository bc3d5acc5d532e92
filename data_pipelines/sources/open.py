"""Opens what a config names. Shards on disk are indexed first, shards behind URLs are fetched when they are read, and
tables and folders of files are read in place."""

from collections.abc import Callable, Sequence

from tercet.data_pipelines.config import DataConfig, SplitConfig
from tercet.data_pipelines.manifests.find import is_manifest
from tercet.data_pipelines.manifests.reading import PLAIN, Reading
from tercet.data_pipelines.manifests.source import open_manifest_source, say_once
from tercet.data_pipelines.shards.address import is_url, redacted
from tercet.data_pipelines.shards.cache import Cache
from tercet.data_pipelines.shards.find import find_shards
from tercet.data_pipelines.shards.read import open_shards
from tercet.data_pipelines.shards.remote import open_remote
from tercet.data_pipelines.shards.tar import Missing
from tercet.data_pipelines.source import Source
from tercet.data_pipelines.sources.part import part_by_group, part_by_shard, too_large_for_groups
from tercet.data_pipelines.split import Part
from tercet.distributed import World
from tercet.errors import UserError

GIGABYTE = 10**9
NAMED = "their samples name their files by extension; leave it out, or name a table"
OF_TABLES = dict.fromkeys(("image", "audio", "text", "key", "templates"), NAMED)


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
        raise UserError(f"`{said[0]}` does not apply to {first}, which are shards: {OF_TABLES[said[0]]}")


def open_source(
    spec: str | Sequence[str],
    *,
    missing: Missing = "fail",
    max_bad: float = 0.01,
    cache: Cache | None = None,
    reading: Reading = PLAIN,
) -> Source:
    """`reading` says how to read a table or a folder; of shards it names the part."""
    first = redacted(spec if isinstance(spec, str) else spec[0])
    if is_manifest(spec):
        if reading.split_by == "shard":
            raise UserError(f"split_by: {first} is not a set of shards; set `split_by` to group or file")
        return open_manifest_source(spec, reading, (cache or Cache()).limit_bytes)
    shards = find_shards(spec)
    remote = [shard for shard in shards if is_url(shard)]
    if remote and len(remote) < len(shards):
        raise UserError(
            f"{redacted(remote[0])} is behind a URL and other shards beside it are on disk; "
            "name them as two sources, each with its own weight"
        )

    def opened(some: Sequence[str]) -> Source:
        if remote:
            return open_remote(some, cache or Cache(), missing=missing, max_bad=max_bad)
        return open_shards(some, missing=missing, max_bad=max_bad)

    return _part(opened, shards, reading, reading.part, first) if reading.part else opened(shards)


def _part(
    opened: Callable[[Sequence[str]], Source], shards: Sequence[str], reading: Reading, part: Part, label: str
) -> Source:
    """A part of a set of shards, which says in one line how it was chosen. Of remote shards, only those of the part are
    fetched, unless there is a single one."""
    by_shard = reading.split_by == "shard" or (reading.split_by is None and is_url(shards[0]) and len(shards) > 1)
    whole = None if by_shard else opened(shards)
    share = f"{label}: part [{part[0]:g}, {part[1]:g}]"
    if whole is None or (reading.split_by is None and too_large_for_groups(whole)):
        chosen = part_by_shard(shards, part)
        say_once(f"{share}: {len(chosen):,} of {len(shards):,} shards; samples of one group may be in both parts")
        return opened(chosen)
    source = part_by_group(whole, reading, part)
    by = "key" if reading.split_by == "file" else f"group ({reading.group})"
    say_once(f"{share}: {len(source):,} of {len(whole):,} samples, split by the hash of their {by}")
    if not len(source):
        raise UserError(f"{share} holds none of the {len(whole):,} samples; widen it, or raise data.held_out")
    return source
