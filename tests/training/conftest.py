"""A world of a hundred scenes, drawn once for all tests of a training run."""

from pathlib import Path

import pytest

from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.data_pipelines.builtin.dataset import generate


@pytest.fixture(scope="session")
def world_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = WorldConfig(
        train=96, val=40, combinations=24, size=32, seconds=0.5, samples_per_shard=24, workers=1, missing={"audio": 0.2}
    )
    return generate(config, tmp_path_factory.mktemp("world"))
