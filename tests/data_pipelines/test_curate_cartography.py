"""The columns of a run become a group of the score table."""

from pathlib import Path

import numpy as np
import pytest

from tercet.data_pipelines.columns import COLUMNS, Column, write_column
from tercet.data_pipelines.config import SplitConfig
from tercet.data_pipelines.curate.cartography import import_cartography
from tercet.data_pipelines.curate.score_group import ScoreGroup
from tercet.data_pipelines.curate.score_task import ScoreTask
from tercet.errors import UserError
from tests.data_pipelines.curated import opened, rows, scored, written


def test_values_are_those_of_the_run(tmp_path: Path) -> None:
    shards, run = written(tmp_path / "shards"), tmp_path / "run"
    source, _ = opened(shards)

    def cartography(task: ScoreTask, split: SplitConfig) -> ScoreGroup:
        return import_cartography(task, run)

    with pytest.raises(UserError, match="has no columns of cartography; train with memories="):
        scored(cartography, shards, tmp_path / "scores")
    dice, id_n = np.random.default_rng(0), np.delete(np.arange(len(source)), [3, 17, *range(20, 40)])
    values = {name: dice.random(len(id_n)).astype(np.float32) for name in ("confidence", "variability")}
    column = Column(id_n, {"count": dice.integers(1, 9, len(id_n), dtype=np.int32), **values})
    write_column(run / COLUMNS / "cartography", source.fingerprint, column)
    group = scored(cartography, shards, tmp_path / "scores")
    expected = [
        {"id": id, "key": f"s{id:03d}", **{name: value[at].item() for name, value in column.values.items()}}
        for at, id in enumerate(id_n.tolist())
    ]
    assert rows(group) == expected
    assert group.missing("data") == []
    others = written(tmp_path / "others", samples=50)
    with pytest.raises(UserError, match="did not train on these data"):
        scored(cartography, others, tmp_path / "scores of others")
    column.values["count"][0] += 1
    write_column(run / COLUMNS / "cartography", source.fingerprint, column)
    with pytest.raises(UserError, match=r"holds other values \(values changed\)"):
        scored(cartography, shards, tmp_path / "scores")
