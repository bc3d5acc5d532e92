"""A config's data, opened for training: every source indexed or fetched, or one streamed."""

import sys
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from tercet.data_pipelines.batches.batches import Batches
from tercet.data_pipelines.batches.loader import Loader
from tercet.data_pipelines.config import DataConfig, SplitConfig
from tercet.data_pipelines.manifests.find import find_pieces, is_manifest
from tercet.data_pipelines.manifests.manifest import Manifest
from tercet.data_pipelines.preflight.modalities import check_held
from tercet.data_pipelines.sample import Intake
from tercet.data_pipelines.shards.cache import Cache
from tercet.data_pipelines.shards.find import find_shards
from tercet.data_pipelines.shards.sources import open_source
from tercet.data_pipelines.source import Source
from tercet.distributed import World
from tercet.errors import UserError, did_you_mean
from tercet.modality import modality_of

GIGABYTE = 10**9
NAMED = "their samples name their files by extension; leave it out, or name a table"
OF_TABLES = {
    **dict.fromkeys(("image", "audio", "text", "key", "templates"), NAMED),
    "part": "they are split when they are packed; name those that are held out in data.val, or a table",
}
HELD = 1000  # samples of a stream that are held, undecoded, to be mixed


def open_loader(
    data: DataConfig,
    intakes: Mapping[str, Intake],
    batch_size: int,
    seed: int,
    world: World,
    cursors: Mapping[str, int],
    folder: Path,
    learned: Collection[str] = (),
) -> Batches:
    """The batches of this rank from wherever the sources stand; `learned`: modalities that these must hold somewhere.
    A collective."""
    if data.mode == "stream":
        check_streams(data)
        return _stream(data, intakes, batch_size, seed, world, cursors, folder)
    sources = {name: open_first(data, source, world) for name, source in data.train.items()}
    check_held(data.train, sources, learned)
    return Loader(
        data, sources, intakes, batch_size, seed=seed, rank=world.rank, world=world.size, start=cursors, folder=folder
    )


def open_split(data: DataConfig, split: SplitConfig) -> Source:
    """One source as the config wants it opened."""
    cache = Cache(limit_bytes=round(data.cache_gb * GIGABYTE))
    _check_said(split)
    return open_source(split.source, missing=data.missing, max_bad=data.max_bad, cache=cache, reading=split.reading)


def check_source(split: SplitConfig) -> None:
    """What is not there, or has no such columns, is said before anything is built."""
    if is_manifest(split.source):
        piece = find_pieces(split.source)[0]
        _check_group(split.group, piece.open(split.reading.roles), piece.label)
    else:
        find_shards(split.source)
        _check_said(split)


def check_columns(data: DataConfig, fields: Iterable[str]) -> None:
    """What is to be learned from is in a column of some table; shards and folders show what they hold when read."""
    splits = list(data.train.values())
    if not all(is_manifest(split.source) for split in splits):
        return
    found = [find_pieces(split.source)[0] for split in splits]
    tables = [piece.open(split.reading.roles) for piece, split in zip(found, splits, strict=True)]
    if not all(table.columns for table in tables):
        return
    held = {modality for table in tables for modality in table.roles.media}
    if any(table.roles.text or split.captions for table, split in zip(tables, splits, strict=True)):
        held.add("text")
    for modality in map(modality_of, fields):
        if modality not in held:
            raise UserError(
                f"no column of {found[0].label} is known to hold {modality}, which is to be learned from; "
                f"name it with `{modality}` (columns: {', '.join(tables[0].columns)})"
            )


def _check_group(group: str, manifest: Manifest, where: str) -> None:
    """A column that is not there would group nothing, and hold out what was learned from."""
    known = [column for column in manifest.columns if column not in manifest.roles.taken]
    column = group.removeprefix("json.").partition(".")[0]
    asked = group != SplitConfig.model_fields["group"].default and group.startswith("json.")
    if asked and manifest.columns and column not in known:
        raise UserError(f"group: {where} has no further column `{column}`; {did_you_mean(column, known)}")


def _check_said(split: SplitConfig) -> None:
    """What is said of a source can be said of its kind."""
    said = [name for name in OF_TABLES if getattr(split, name)]
    if said and not is_manifest(split.source):
        first = split.source if isinstance(split.source, str) else split.source[0]
        raise UserError(f"`{said[0]}` is said of {first}, which are shards: {OF_TABLES[said[0]]}")


def open_first(data: DataConfig, split: SplitConfig, world: World) -> Source:
    """Ranks index shards side by side; into tables and folders the first goes ahead."""
    ahead = world.first or not is_manifest(split.source)
    source = open_split(data, split) if ahead else None
    world.wait_for_all()
    return open_split(data, split) if source is None else source


def check_streams(data: DataConfig) -> None:
    if data.mode == "index":
        return
    for name, source in data.train.items():
        if is_manifest(source.source):
            raise UserError(f"data.train.{name} is no set of shards, and only these are streamed; set data.mode=index")


def _stream(
    data: DataConfig,
    intakes: Mapping[str, Intake],
    batch_size: int,
    seed: int,
    world: World,
    cursors: Mapping[str, int],
    folder: Path,
) -> Batches:
    from tercet.data_pipelines.stream.loader import StreamLoader  # webdataset, which only a stream needs

    places = [cursors[name] for name in data.train if name in cursors]  # others are of stages before
    start = max(places, default=0)
    if places and world.first:
        said = f"tercet: a stream goes on by shard, from place {start} of its sequence; what was begun is seen again"
        print(said, file=sys.stderr)
    return StreamLoader(
        data, intakes, batch_size, seed=seed, rank=world.rank, world=world.size,
        start=start, shuffled=min(data.window, HELD), folder=folder,
    )  # fmt: skip
