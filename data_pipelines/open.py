"""A config's data, opened for training: every source indexed or fetched, or one streamed."""

import sys
from collections.abc import Mapping
from pathlib import Path

from tercet.data_pipelines.batches import Batches
from tercet.data_pipelines.config import DataConfig, SplitConfig
from tercet.data_pipelines.loader import Loader
from tercet.data_pipelines.sample import Intake
from tercet.data_pipelines.shards.cache import Cache
from tercet.data_pipelines.shards.sources import open_source
from tercet.data_pipelines.source import Source
from tercet.distributed import World

GIGABYTE = 10**9
HELD = 1000  # samples of a stream that are held, undecoded, to be mixed


def open_loader(
    data: DataConfig,
    intakes: Mapping[str, Intake],
    batch_size: int,
    seed: int,
    world: World,
    cursors: Mapping[str, int],
    folder: Path,
) -> Batches:
    """The batches of this rank from wherever the sources stand. A collective."""
    if data.mode == "stream":
        return _stream(data, intakes, batch_size, seed, world, max(cursors.values(), default=0), folder)
    sources = {name: open_first(data, source, world) for name, source in data.train.items()}
    return Loader(
        data, sources, intakes, batch_size, seed=seed, rank=world.rank, world=world.size, start=cursors, folder=folder
    )


def open_split(data: DataConfig, split: SplitConfig) -> Source:
    """One source as the config wants it opened."""
    cache = Cache(limit_bytes=round(data.cache_gb * GIGABYTE))
    return open_source(split.source, missing=data.missing, max_bad=data.max_bad, cache=cache)


def open_first(data: DataConfig, split: SplitConfig, world: World) -> Source:
    """The first rank goes ahead: it indexes what is not indexed yet."""
    source = open_split(data, split) if world.first else None
    world.barrier()
    return open_split(data, split) if source is None else source


def _stream(
    data: DataConfig,
    intakes: Mapping[str, Intake],
    batch_size: int,
    seed: int,
    world: World,
    start: int,
    folder: Path,
) -> Batches:
    from tercet.data_pipelines.stream.loader import StreamLoader  # webdataset, which only a stream needs

    if start and world.first:
        said = f"tercet: a stream goes on by shard, from place {start} of its sequence; what was begun is seen again"
        print(said, file=sys.stderr)
    return StreamLoader(
        data, intakes, batch_size, seed=seed, rank=world.rank, world=world.size,
        start=start, shuffled=min(data.window, HELD), folder=folder,
    )  # fmt: skip
