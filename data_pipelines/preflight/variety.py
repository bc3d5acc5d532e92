"""Warns of data from which nothing can be learned, because all samples look the same to the loss."""

from collections.abc import Collection, Iterator, Mapping

from tercet.data_pipelines.captions.groups import GroupReader
from tercet.data_pipelines.captions.reader import CaptionReader
from tercet.data_pipelines.config import SplitConfig
from tercet.data_pipelines.source import Source
from tercet.main_process import say

FIRST = 16  # samples in a row, which usually tell; then others, evenly apart
LOOKED_AT = 256


def warn_if_all_alike(
    splits: Mapping[str, SplitConfig], sources: Mapping[str, Source], modalities: Collection[str]
) -> None:
    """Reads until two samples differ, which usually are the first two."""
    groups = _values(sources, {name: split.group for name, split in splits.items()}, splits)
    if seen := _alike(groups):
        say(
            f"warning: all {seen} samples that were looked at belong to one group or class, so that none is a negative "
            "of another and nothing is learned; check `group` and the labels"
        )
    elif "text" in modalities and (seen := _alike(_values(sources, dict.fromkeys(splits, "text"), splits))):
        say(
            f"warning: all {seen} samples that were looked at have the same caption, so that nothing is learned from "
            "captions; check the column or the files that they come from"
        )


def _values(
    sources: Mapping[str, Source], specs: Mapping[str, str], splits: Mapping[str, SplitConfig]
) -> Iterator[int]:
    """The group of some samples of each source by the spec of that source; below zero, a sample has none."""
    for name, source in sources.items():
        group_of = GroupReader(specs[name], CaptionReader(splits[name].captions))
        for id in _ids(len(source)):
            yield from group_of.each(source.read([id], group_of.wanted))


def _ids(samples: int) -> Iterator[int]:
    yield from range(min(samples, FIRST))
    if samples > FIRST:
        count = min(samples - FIRST, LOOKED_AT - FIRST)
        yield from (FIRST + turn * (samples - FIRST) // count for turn in range(count))


def _alike(values: Iterator[int]) -> int:
    """How many values there are, if they are two or more and all equal; else 0."""
    first, count = next(values, -1), 1
    if first < 0:
        return 0
    for value in values:
        if value != first:
            return 0
        count += 1
    return count if count > 1 else 0
