"""Tars written by `tarfile`, and the samples that our shards read from them."""

import tarfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.shards.read import Shards, open_shards
from tercet.data_pipelines.source import Files
from tercet.modality import EXTENSIONS


def write_tar(path: Path, files: Mapping[str, bytes], format: int = tarfile.USTAR_FORMAT) -> Path:
    with tarfile.open(path, "w", format=format) as tar:
        for name, payload in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(payload)
            tar.addfile(info, BytesIO(payload))
    return path


def contents(path: Path) -> dict[str, Files]:
    shards = open_shards(str(path))
    return {shards.key(id): files for id, files in enumerate(good(shards))}


def good(shards: Shards) -> list[Files]:
    """All files of all samples, none of which may be bad."""
    found = shards.read(range(len(shards)), EXTENSIONS)
    assert not [files for files in found if isinstance(files, BadSample)]
    return [files for files in found if not isinstance(files, BadSample)]
