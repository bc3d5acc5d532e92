"""Opens the data of a config for training, by index or as a stream."""

import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from tercet.data_pipelines.batches.batches import Batches
from tercet.data_pipelines.batches.loader import Loader
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.features import check_features
from tercet.data_pipelines.fields import FieldSpec
from tercet.data_pipelines.preflight.declared import check_streams
from tercet.data_pipelines.preflight.modalities import check_modalities
from tercet.data_pipelines.preflight.sidecars import warn_if_strange
from tercet.data_pipelines.preflight.variety import warn_if_all_alike
from tercet.data_pipelines.sample import FeatureIntake, Intake
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.distributed import World
from tercet.main_process import say

SHUFFLE_BUFFER = 1000  # largest number of undecoded samples that a stream shuffles


def open_loader(
    data: DataConfig,
    intakes: Mapping[str, Intake],
    batch_size: int,
    seed: int,
    world: World,
    cursors: Mapping[str, int],
    folder: Path,
    trained: Collection[str] = (),
    opened: OpenedSources | None = None,
    further: Mapping[str, FieldSpec] | None = None,
    again: Mapping[str, FieldSpec] | None = None,
) -> Batches:
    """The batches of this rank, which start at `cursors`. A collective.

    `trained`: modalities that some source must hold. `further`: the fields that the recipe adds. `again`: those of
    pictures that are decoded again at other sizes, for some items of a batch.
    """
    opened = opened or OpenedSources()
    if data.mode == "stream":
        check_streams(data, opened)
        return _stream(data, intakes, batch_size, seed, world, cursors, folder, opened, further)
    sources = {name: opened.open_first(data, source, world) for name, source in data.train.items()}
    check_modalities(data.train, sources, trained)
    for intake in (*intakes.values(), *(field.intake for field in (further or {}).values())):
        if isinstance(intake, FeatureIntake):
            check_features(intake.key, intake.modality, Path(intake.folder), data.train, sources)
    if world.first:
        warn_if_all_alike(data.train, sources, trained)
        warn_if_strange(data.train, sources)
    loader = Loader(
        data, sources, intakes, batch_size, seed=seed, rank=world.rank, world=world.size, start=cursors, folder=folder,
        further=further, again=again,
    )  # fmt: skip
    for line in loader.schedule.remarks() if world.first else ():
        say(line)
    return loader


def _stream(
    data: DataConfig,
    intakes: Mapping[str, Intake],
    batch_size: int,
    seed: int,
    world: World,
    cursors: Mapping[str, int],
    folder: Path,
    opened: OpenedSources,
    further: Mapping[str, FieldSpec] | None,
) -> Batches:
    from tercet.data_pipelines.stream.loader import StreamLoader  # webdataset, which only a stream needs

    places = [cursors[name] for name in data.train if name in cursors]  # an earlier stage may have had other sources
    start = max(places, default=0)
    if places and world.first:
        message = (
            f"tercet: the stream resumes at shard {start} of its sequence; samples of unfinished shards are read again"
        )
        print(message, file=sys.stderr)
    (shards, *_) = [opened.files(source).shards for source in data.train.values()]
    return StreamLoader(
        data, intakes, batch_size, seed=seed, rank=world.rank, world=world.size,
        start=start, shuffled=min(data.window, SHUFFLE_BUFFER), folder=folder, shards=shards, further=further,
    )  # fmt: skip
