"""Opens data only if it takes seconds: if they have an index, or are small."""

import os
from collections.abc import Sequence
from itertools import chain, islice

from tercet.data_pipelines.config import DataConfig, SplitConfig
from tercet.data_pipelines.manifests.build import existing_index_file
from tercet.data_pipelines.manifests.find import ManifestFile
from tercet.data_pipelines.shards.address import is_url
from tercet.data_pipelines.shards.record import find_record
from tercet.data_pipelines.source import Source
from tercet.data_pipelines.sources.opened import OpenedSources

ROWS = 5_000
TABLE, SHARDS = 10**8, 10**9  # bytes


def open_at_once(data: DataConfig, split: SplitConfig, sources: OpenedSources) -> Source | None:
    """The source, or None if opening it would take long."""
    files = sources.files(split)
    quick = _is_short(files.pieces, split) if files.pieces else _is_small(files.shards)
    return sources.open(data, split) if quick else None


def _is_short(pieces: Sequence[ManifestFile], split: SplitConfig) -> bool:
    if existing_index_file(pieces, split.reading):
        return True
    if sum(os.path.getsize(piece.path) for piece in pieces) > TABLE:
        return False
    rows = chain.from_iterable(piece.open(split.roles).entries() for piece in pieces)
    return sum(1 for _ in islice(rows, ROWS + 1)) <= ROWS


def _is_small(shards: Sequence[str]) -> bool:
    if any(map(is_url, shards)):
        return False
    return sum(map(os.path.getsize, shards)) <= SHARDS or all(map(find_record, shards))
