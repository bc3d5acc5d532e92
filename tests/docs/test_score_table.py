"""docs/score_table.md lists every column that tercet writes, with its type; its code runs."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

from tercet.data_pipelines.curate import cartography, words_in_image
from tercet.data_pipelines.curate.duplicates import group as duplicates
from tercet.data_pipelines.curate.score_group import ScoreColumn
from tercet.data_pipelines.curate.score_table import ScoreTable
from tercet.data_pipelines.curate.signals import sample, specificity
from tercet.training.prototypes import semantic_duplicates
from tests.data_pipelines.curated import written

PAGE = Path(__file__).resolve().parents[2] / "docs/score_table.md"
GROUPS: Mapping[str, Mapping[str, ScoreColumn]] = {
    "signals": {**sample.COLUMNS, **specificity.COLUMNS},
    "duplicates": duplicates.COLUMNS,
    "words_in_image": words_in_image.COLUMNS,
    "semantic_duplicates": semantic_duplicates.COLUMNS,
    "cartography": cartography.COLUMNS,
}


def section(group: str) -> str:
    found = re.search(rf"^### `{group}`.*?(?=^##)", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[0]


@pytest.mark.parametrize("group", GROUPS)
def test_the_columns_of_a_group_are_those_of_the_page(group: str) -> None:
    listed = {}
    for names, type in re.findall(r"^\| (`.+?) \| (\w+) \|", section(group), re.MULTILINE):
        listed |= dict.fromkeys(re.findall(r"`(\w+)`", names), type)
    assert listed == {name: column.type for name, column in GROUPS[group].items()}


def test_the_code_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tercet.command import main

    monkeypatch.chdir(tmp_path)
    written(tmp_path / "shards")
    command = re.findall(r"^    tercet (curate score shards --out scores) .*# signals", PAGE.read_text(), re.MULTILINE)
    assert main([*command[0].split(), "--workers", "1"]) == 0
    frame = pd.DataFrame({"id": [4, 2], "key": ["s004", "s002"], "keep": [True, False]})
    Path("scores/mine/data").mkdir(parents=True)
    names: dict[str, Any] = {"frame": frame}
    for block in re.findall(r"```python\n(.+?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(re.sub(r"^duckdb.sql", "found = duckdb.sql", block, flags=re.MULTILINE), names)
    assert len(names["found"].fetchall()) > 40
    assert ScoreTable(Path("scores")).groups == ["duplicates", "mine", "signals"]
    kept = duckdb.sql("select key from read_parquet('scores/mine/data/*.parquet') where keep").fetchall()
    assert kept == [("s004",)]
