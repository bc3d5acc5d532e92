"""Computes the group `duplicates` of a source.

Worker processes on all ranks make fingerprints, which are in a draft on disk; then the first rank clusters them. It
holds about 1 KB of each sample in memory, and reads again those pictures and sounds that may be the same.

Pictures are the same if they look the same, also in another size or quality, or with slightly cropped edges. Sounds are
the same if they sound the same from start to end, also in another codec, rate or loudness. Captions are the same if
they have the same words. A picture of one colour is compared by its file alone.
"""

import numpy as np

from tercet.data_pipelines.config import SplitConfig
from tercet.data_pipelines.curate.duplicates import prints
from tercet.data_pipelines.curate.duplicates.clustered import NONE, clustered
from tercet.data_pipelines.curate.duplicates.prints import PrintReader
from tercet.data_pipelines.curate.engines import arrow
from tercet.data_pipelines.curate.parts import write_parts
from tercet.data_pipelines.curate.score_group import ScoreColumn, ScoreGroup
from tercet.data_pipelines.curate.score_task import ScoreTask
from tercet.data_pipelines.duplicates.prints import Printer
from tercet.data_pipelines.source import Source

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


def score_duplicates(task: ScoreTask, split: SplitConfig, workers: int) -> ScoreGroup:
    """A collective."""
    request = {"by": DUPLICATES, "captions": split.captions}
    draft, found = task.begin_draft(request, prints.COLUMNS), task.begin(request, COLUMNS)
    if task.missing(found):
        reader = PrintReader(Printer(task.source, split.captions))
        write_parts(draft, task.name, reader, workers, "taking fingerprints", task.world)
        if task.world.first:
            _write(draft, found, task.name, task.source)
    return task.finish(found, draft)


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
