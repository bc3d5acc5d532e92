"""Opens the sources of a config. Shards on disk are indexed first, shards behind URLs are fetched when they are read,
and tables and folders are read in place."""

from collections.abc import Callable, Hashable, Sequence

from tercet.data_pipelines.config import DataConfig, SplitConfig
from tercet.data_pipelines.manifests.reading import PLAIN, Reading
from tercet.data_pipelines.manifests.source import open_manifest_source, say_once
from tercet.data_pipelines.shards.address import is_url, redacted
from tercet.data_pipelines.shards.cache import Cache
from tercet.data_pipelines.shards.read import open_found
from tercet.data_pipelines.shards.remote import open_remote
from tercet.data_pipelines.shards.tar import Missing
from tercet.data_pipelines.source import Source
from tercet.data_pipelines.sources.files import SourceFiles, find_files
from tercet.data_pipelines.sources.part import part_by_group, part_by_shard, too_large_for_groups
from tercet.data_pipelines.split import Part
from tercet.errors import UserError

GIGABYTE = 10**9
TABLES_ONLY = ("image", "audio", "text", "key", "files", "templates")  # options

Opened = dict[Hashable, Source]  # open shards, by the arguments that they were opened with


def open_split(
    data: DataConfig, split: SplitConfig, files: SourceFiles | None = None, opened: Opened | None = None
) -> Source:
    """One source of a config. `files` and `opened` save a second search and a second opening."""
    files = files or find_files(split.source)
    check_options(split, files)
    cache = Cache(limit_bytes=round(data.cache_gb * GIGABYTE))
    return open_files(
        files, missing=data.missing, max_bad=data.max_bad, cache=cache, reading=split.reading, opened=opened
    )


def check_options(split: SplitConfig, files: SourceFiles) -> None:
    """Refuses options that do not apply to this kind of source."""
    given = [name for name in TABLES_ONLY if getattr(split, name)]
    if given and files.shards:
        raise UserError(
            f"`{given[0]}` does not apply to {files.label}, which are shards: the extension of a file says what it is. "
            "Leave it out, or name a table"
        )


def open_source(spec: str | Sequence[str], *, reading: Reading = PLAIN) -> Source:
    return open_files(find_files(spec), reading=reading)


def open_files(
    files: SourceFiles,
    *,
    missing: Missing = "fail",
    max_bad: float = 0.01,
    cache: Cache | None = None,
    reading: Reading = PLAIN,
    opened: Opened | None = None,
) -> Source:
    """`reading`: how to read a table or a folder; for shards, only its part applies."""
    if files.pieces:
        if reading.split_by == "shard":
            raise UserError(f"split_by: {files.label} is not a set of shards; set `split_by` to group or file")
        return open_manifest_source(files.pieces, reading, (cache or Cache()).limit_bytes)
    remote = [shard for shard in files.shards if is_url(shard)]
    if remote and len(remote) < len(files.shards):
        raise UserError(
            f"{redacted(remote[0])} is behind a URL, but other shards of the source are on disk. "
            "Name two sources, each with its own weight"
        )
    known = {} if opened is None else opened

    def open_once(shards: Sequence[str]) -> Source:
        key = (*shards, missing, max_bad, cache and cache.limit_bytes)
        if key not in known and remote:
            known[key] = open_remote(shards, cache or Cache(), missing=missing, max_bad=max_bad)
        elif key not in known:
            known[key] = open_found(shards, missing=missing, max_bad=max_bad)
        return known[key]

    return _part(open_once, files, reading, reading.part) if reading.part else open_once(files.shards)


def _part(opened: Callable[[Sequence[str]], Source], files: SourceFiles, reading: Reading, part: Part) -> Source:
    """A part of a set of shards; prints in one line how it was split. Of remote shards, only those of the part are
    fetched, unless there is only one."""
    shards = files.shards
    by_shard = reading.split_by == "shard" or (reading.split_by is None and is_url(shards[0]) and len(shards) > 1)
    whole = None if by_shard else opened(shards)
    share = f"{files.label}: part [{part[0]:g}, {part[1]:g}]"
    if whole is None or (reading.split_by is None and too_large_for_groups(whole)):
        chosen = part_by_shard(shards, part)
        say_once(f"{share}: {len(chosen):,} of {len(shards):,} shards; samples of one group may be in both parts")
        return opened(chosen)
    source = part_by_group(whole, reading, part)
    by = "key" if reading.split_by == "file" else f"group ({reading.group})"
    say_once(f"{share}: {len(source):,} of {len(whole):,} samples, split by the hash of their {by}")
    if not len(source):
        raise UserError(f"{share} holds none of the {len(whole):,} samples. Widen it, or raise data.held_out")
    return source
