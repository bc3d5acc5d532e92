"""Finds the files of a source: shards, or the tables and folders of a manifest."""

from collections.abc import Sequence
from dataclasses import dataclass

from tercet.data_pipelines.manifests.find import ManifestFile, find_pieces, is_manifest
from tercet.data_pipelines.shards.address import redacted
from tercet.data_pipelines.shards.find import find_shards


@dataclass(frozen=True)
class SourceFiles:
    """Either paths and URLs of shards, or tables and folders that list samples."""

    label: str
    shards: tuple[str, ...] = ()
    pieces: tuple[ManifestFile, ...] = ()


def find_files(spec: str | Sequence[str]) -> SourceFiles:
    label = redacted(spec if isinstance(spec, str) else spec[0])
    if is_manifest(spec):
        return SourceFiles(label, pieces=tuple(find_pieces(spec)))
    return SourceFiles(label, shards=tuple(find_shards(spec)))
