"""Whichever test starts the first process, the server of all loads what any will need. Each test has its own cache."""

from uuid import uuid4

import pytest

from tercet.processes import server
from tercet.testing import PRELOADED

server(*PRELOADED, "tercet.data_pipelines.batches.fill")


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a server of an earlier test gave out under the same port is no answer of a later one's."""
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path_factory.getbasetemp() / f"cache-{uuid4().hex}"))
