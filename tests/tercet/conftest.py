from pathlib import Path

import pytest

from tests.tercet.outside import filled


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("outside"))
