"""`tercet curate score` with models, as a command and as a function."""

import json
import shlex
from pathlib import Path

import duckdb
import pytest

import tercet
from tercet.api.curate import score
from tercet.command import main
from tercet.data_pipelines.curate.score_table import ScoreTable
from tercet.errors import UserError


def table(group: str) -> list[tuple[object, ...]]:
    return duckdb.sql(f"select * from read_parquet('scores/{group}/data/*.parquet') order by id").fetchall()


def test_a_model_scores_pictures_and_captions(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(shlex.split("curate score photos.csv --by exported --name clip --out scores --json")) == 0
    assert json.loads(capsys.readouterr().out) == {"table": "scores", "source": "data", "rows": {"clip": 48}}
    vectors = tercet.embed("exported", "photos.csv").table().vectors
    cosine = (vectors["image"] * vectors["text"]).sum(dim=1)
    assert [row[-1] for row in table("clip")] == pytest.approx(cosine.tolist(), abs=1e-5)
    facts = json.loads(Path("scores/clip/manifest.json").read_bytes())
    assert facts["columns"]["image_text"] == {
        "type": "float32",
        "meaning": "cosine of image and text; of several captions, of the first",
    }


def test_a_model_has_nothing_to_learn_from_itself(home: Path) -> None:
    found = score("photos.csv", "scores", by="exported", reference="exported", batch_size=16)
    assert found.rows == {"learnability": 48}
    assert [row[2] for row in table("learnability")] == [0.0] * 48
    assert all(row[3] > 0 for row in table("learnability"))


def test_several_groups_at_once(home: Path) -> None:
    groups = ("signals", "duplicates", "semantic_duplicates")
    found = score("photos.csv", "scores", by="exported", groups=groups, workers=1, clusters=3)
    assert found.rows == dict.fromkeys(groups, 48)
    assert set(groups) <= set(ScoreTable(Path("scores")).groups)
    assert str(found).splitlines()[0] == "scores/signals: 48 rows"


def test_a_second_source_is_added(home: Path) -> None:
    score("photos.csv", "scores", groups="signals", workers=1)
    score("val.csv", "scores", groups="signals", workers=1, source="held_out")
    assert {name: one.samples for name, one in ScoreTable(Path("scores")).sources.items()} == {
        "data": 48,
        "held_out": 12,
    }
    with pytest.raises(UserError, match="the samples of the source `data` changed since they were scored"):
        score("val.csv", "scores", groups="signals")
