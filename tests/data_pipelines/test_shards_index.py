import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.data_pipelines.shards.index import EXTENSIONS, Census, arrange
from tercet.data_pipelines.shards.read import open_shards
from tercet.data_pipelines.shards.tar import members

from .tars import write_tar

LONG = "a-name-longer-than-the-hundred-bytes-of-a-tar-header/" * 3


def contents(path: Path) -> dict[str, dict[str, bytes]]:
    shards = open_shards(str(path))
    return {shards.key(id): dict(shards.read([id], EXTENSIONS)[0]) for id in range(len(shards))}  # type: ignore[arg-type]
