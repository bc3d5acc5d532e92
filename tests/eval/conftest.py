"""The report of an example run."""

from pathlib import Path

import pytest

from tercet.eval.report.gallery import galleries
from tercet.eval.report.write import write_report
from tests.eval.reported import RATE, metrics, results, sample, selection, table
from tests.tercet.parsed import HOSTILE


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    metrics(folder / "metrics.jsonl")
    walls = galleries(table(), sample, RATE)
    facts, chosen = {HOSTILE: HOSTILE}, selection()
    return write_report(folder, HOSTILE, results(), walls, f"name: {HOSTILE}", facts, selected=chosen)
