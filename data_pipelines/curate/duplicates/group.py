"""Computes the group `duplicates` of a source.

Worker processes on all ranks make fingerprints, which are in a draft on disk; then the first rank clusters them. It
holds about 1 KB of each sample in memory, and reads again those pictures and sounds that may be the same.

Pictures are the same if they look the same, also in another size or quality, or with slightly cropped edges. Sounds are
the same if they sound the same from start to end, also in another codec, rate or loudness. Captions are the same if
they have the same words. A picture of one colour is compared by its file alone.
"""

import shutil

import numpy as np

from tercet.data_pipelines.config import SplitConfig
from tercet.data_pipelines.curate.duplicates import prints
from tercet.data_pipelines.curate.duplicates.clustered import NONE, clustered
from tercet.data_pipelines.curate.duplicates.prints import PrintReader
from tercet.data_pipelines.curate.engines import arrow
from tercet.data_pipelines.curate.parts import write_parts
from tercet.data_pipelines.curate.score_group import ScoreColumn, ScoreGroup
from tercet.data_pipelines.curate.score_table import ScoreTable
from tercet.data_pipelines.duplicates.prints import Printer
from tercet.data_pipelines.source import Source
from tercet.distributed import World

DUPLICATES = "duplicates"

COLUMNS = {
    "cluster": ScoreColumn(
        "int64", "id of the first sample with the same picture and the same sound, or for text alone the same captions"
    ),
    "first": ScoreColumn("bool", "the sample is the first of its cluster: the one to keep"),
    "size": ScoreColumn("int32", "samples of the cluster"),
    "image_cluster": ScoreColumn("int64", "id of the first sample with the same picture"),
    "audio_cluster": ScoreColumn("int64", "id of the first sample with the same sound"),
    "text_cluster": ScoreColumn("int64", "id of the first sample with the same captions"),
}


def score_duplicates(
    table: ScoreTable,
    name: str,
    source: Source,
    split: SplitConfig,
    world: World,
    workers: int,
    group: str = DUPLICATES,
) -> ScoreGroup:
    """A collective."""
    request = {"by": DUPLICATES, "captions": split.captions}
    draft = table.begin_group(f".{group}", request, prints.COLUMNS)
    found = table.begin_group(group, request, COLUMNS)
    if world.broadcast(found.missing(name)):
        reader = PrintReader(Printer(source, split.captions))
        write_parts(draft, name, reader, workers, "taking fingerprints", world)
        if world.first:
            _write(draft, found, name, source)
    world.wait_for_all()
    if world.first:
        found.finish()
        shutil.rmtree(draft.folder, ignore_errors=True)
    world.barrier()
    return found


def _write(draft: ScoreGroup, group: ScoreGroup, name: str, source: Source) -> None:
    columns = clustered(draft, name, source)
    for ids in group.parts(name):
        rows = draft.read(name, ids).select(["id", "key"])
        at_n = np.searchsorted(columns["id"], rows["id"].to_numpy())
        for column, type in ((column, one.type) for column, one in COLUMNS.items()):
            value_n = columns[column][at_n]
            absent_n = value_n == NONE if type == "int64" else None
            rows = rows.append_column(column, arrow().array(value_n, mask=absent_n))
        group.write(name, ids, rows)
