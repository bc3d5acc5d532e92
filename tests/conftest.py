"""Settings of the whole suite: a thread per process, one server for child processes, property tests without deadlines,
and a cache per test."""

import os
from uuid import uuid4

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run on all cores at once, and their tensors are small

import pytest
from hypothesis import HealthCheck, settings

from tercet.processes import server
from tercet.testing import PRELOADED

server(*PRELOADED, "pytest", "hypothesis")

# Property tests check what holds for all inputs, never how long that takes: a busy machine would fail them.
settings.register_profile("tercet", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tercet")


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later test's web server may listen on the same port, and must not be answered from an earlier test's cache."""
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path_factory.getbasetemp() / f"cache-{uuid4().hex}"))
