"""Warns if nothing can be learned from the data, because all samples have the same caption or group."""

from collections.abc import Collection, Iterator, Mapping

from tercet.data_pipelines.captions.groups import GroupReader
from tercet.data_pipelines.captions.reader import CaptionReader
from tercet.data_pipelines.config import SplitConfig
from tercet.data_pipelines.source import Source
from tercet.main_process import say

FIRST = 16  # samples in a row, which usually differ; then others, evenly spaced
CHECKED = 256


def warn_if_all_alike(
    splits: Mapping[str, SplitConfig], sources: Mapping[str, Source], modalities: Collection[str]
) -> None:
    """Reads until two samples differ, usually the first two. Reads none if the run decodes no modality."""
    if not modalities:
        return
    groups = _values(sources, {name: split.group for name, split in splits.items()}, splits)
    if seen := _alike(groups):
        say(
            f"warning: all {seen} checked samples belong to one group or class, so there are no negatives, and "
            "nothing is learned. Check `group` and the labels"
        )
    elif "text" in modalities and (seen := _alike(_values(sources, dict.fromkeys(splits, "text"), splits))):
        say(
            f"warning: all {seen} checked samples have the same caption, so nothing is learned from captions. Check "
            "the column or the files that the captions come from"
        )


def _values(
    sources: Mapping[str, Source], specs: Mapping[str, str], splits: Mapping[str, SplitConfig]
) -> Iterator[int]:
    """The groups of some samples of each source, by the spec of that source; negative if a sample has none."""
    for name, source in sources.items():
        group_of = GroupReader(specs[name], CaptionReader(splits[name].captions))
        for id in _ids(len(source)):
            yield from group_of.each(source.read([id], group_of.wanted))


def _ids(samples: int) -> Iterator[int]:
    yield from range(min(samples, FIRST))
    if samples > FIRST:
        count = min(samples - FIRST, CHECKED - FIRST)
        yield from (FIRST + turn * (samples - FIRST) // count for turn in range(count))


def _alike(values: Iterator[int]) -> int:
    """The number of values if there are at least two and all are equal, otherwise 0."""
    first, count = next(values, -1), 1
    if first < 0:
        return 0
    for value in values:
        if value != first:
            return 0
        count += 1
    return count if count > 1 else 0
