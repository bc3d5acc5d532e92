"""Computes the group `signals` of a source: over worker processes and ranks, resumable, in constant memory.

The first pass decodes the samples, and writes all columns but `specificity` as a draft. The second one counts the words
of all captions, adds that column, and writes the parts of the group.
"""

import numpy as np
import torch

from tercet.data_pipelines.captions.reader import CaptionReader
from tercet.data_pipelines.captions.sidecar import MetaReader
from tercet.data_pipelines.config import SplitConfig
from tercet.data_pipelines.curate.parts import write_parts
from tercet.data_pipelines.curate.score_group import ScoreGroup
from tercet.data_pipelines.curate.score_task import ScoreTask
from tercet.data_pipelines.curate.signals import sample, specificity
from tercet.data_pipelines.curate.signals.sample import SignalReader
from tercet.data_pipelines.curate.signals.specificity import BUCKETS, AddSpecificity, CountWords, WordCounts
from tercet.data_pipelines.survey.language import knows_languages
from tercet.data_pipelines.survey.walk import walk
from tercet.distributed import World

SIGNALS = "signals"


def score_signals(task: ScoreTask, split: SplitConfig, workers: int) -> ScoreGroup:
    """A collective."""
    request = {"by": SIGNALS, "captions": split.captions, "sidecar": split.sidecar, "languages": knows_languages()}
    draft = task.begin_draft(request, sample.COLUMNS)
    found = task.begin(request, {**sample.COLUMNS, **specificity.COLUMNS})
    if task.missing(found):
        reader = SignalReader(task.source, CaptionReader(split.captions), MetaReader(split.sidecar))
        write_parts(draft, task.name, reader, workers, "measuring samples", task.world)
        counts = _counted(draft, task.name, task.world, workers)
        add = AddSpecificity(draft, found, task.name, counts)
        for _ in walk(add, task.mine(found), workers, "adding specificity"):
            pass
    return task.finish(found, draft)


def _counted(draft: ScoreGroup, name: str, world: World, workers: int) -> WordCounts:
    """The words of all captions of the source. Each rank counts those of every W-th part."""
    mine = draft.parts(name)[world.rank :: world.size]
    captions, count_B = 0, np.zeros(BUCKETS, dtype=np.int64)
    for texts, bucket_u, count_u in walk(CountWords(draft, name), mine, workers, "counting words"):
        captions += texts
        count_B[bucket_u] += count_u
    total = world.sum(torch.tensor(captions, device=world.device))
    total_B = world.sum(torch.from_numpy(count_B).to(world.device))
    return WordCounts(int(total), total_B.cpu().numpy())
