"""The page about a decision: its numbers against loops over the rows, and data that are hostile or gone."""

import csv
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tercet.api.curate import report
from tercet.command import main
from tercet.data_pipelines.curate.database import Engine, Scores
from tercet.data_pipelines.curate.entering import Entering
from tercet.data_pipelines.curate.report.balance import Concept, balance_of
from tercet.data_pipelines.curate.report.histogram import AREA, column_plot
from tercet.data_pipelines.curate.report.shares import share_table
from tercet.data_pipelines.curate.score_table import ScoreTable, TableSource
from tercet.data_pipelines.sources.open import open_source
from tercet.errors import UserError
from tests.data_pipelines.conftest import Pack
from tests.data_pipelines.scored import chosen, decision, scored

DICE = np.random.default_rng(0)
WORDS = DICE.integers(1, 12, 500)
COSINE = DICE.normal(size=500)
LANGUAGE = DICE.choice(["en", "de", "fr"], 500, p=[0.7, 0.2, 0.1])
RULES = [{"where": "signals.words >= 4"}, {"top": {"by": "similarity.image_text", "fraction": 0.5}}]


@pytest.fixture
def table(tmp_path: Path) -> ScoreTable:
    signals = {"words": WORDS.tolist(), "language": LANGUAGE.tolist(), "text": [f"caption {id}" for id in range(500)]}
    table = scored(tmp_path / "scores", {"signals": signals, "similarity": {"image_text": COSINE.tolist()}})
    chosen(table, RULES)
    return table


def entering(table: ScoreTable) -> Entering:
    scratch = table.folder / ".scratch"
    return Entering(Scores(table), None, 500, scratch, "report", Engine(scratch))


def test_histograms_count_what_a_loop_counts(table: ScoreTable) -> None:
    keep = np.array(decision(table)["keep"])
    words = column_plot(entering(table), "signals.words", "chosen", whole=True)
    assert words is not None
    found = [tuple(map(int, re.findall(r"(\d+) of (\d+) kept", bar.label)[0])) for bar in words.bars]
    assert found == [(int(keep[value == WORDS].sum()), int((value == WORDS).sum())) for value in range(1, 12)]
    assert words.note == f"500 values · mean {WORDS.mean():.3g} → {WORDS[keep].mean():.3g}"
    cosine = column_plot(entering(table), "similarity.image_text", "chosen", whole=False)
    assert cosine is not None
    counts = [tuple(map(int, re.findall(r"(\d+) of (\d+) kept", bar.label)[0])) for bar in cosine.bars]
    assert [sum(column) for column in zip(*counts, strict=True)] == [keep.sum(), 500]
    assert all(AREA.top <= bar.before <= bar.after for bar in cosine.bars)


def test_columns_of_few_values_are_tables(table: ScoreTable) -> None:
    keep = np.array(decision(table)["keep"])
    found = share_table(entering(table), "signals.language", "chosen")
    assert found is not None
    assert list(found.rows) == [
        (name, int((name == LANGUAGE).sum()), int(keep[name == LANGUAGE].sum())) for name in ("en", "de", "fr")
    ]
    assert share_table(entering(table), "signals.text", "chosen") is None


def test_the_balance_of_concepts() -> None:
    concepts = [Concept("", f"w{rank}", 1000 // rank, min(1000 // rank, 50)) for rank in range(1, 301)]
    found = balance_of(concepts)
    before, after = (sum(getattr(one, name) for one in concepts) for name in ("before", "after"))
    assert found.head == (sum(1000 // rank for rank in (1, 2, 3)) / before, 150 / after)
    assert [one.entry for one in (found.frequent[0], found.rare[-1])] == ["w1", "w300"]
    heights = [float(point.split(",")[1]) for point in found.before[1:].split("L")]
    assert heights == sorted(heights)  # the counts fall, so the line goes down


def test_the_page_shows_reasons_and_escapes_hostile_captions(table: ScoreTable, tmp_path: Path) -> None:
    hostile = {"signals": {"text": ["<script>alert(1)</script>"] * 4, "words": [5, 5, 1, 1]}}
    scores = scored(tmp_path / "hostile", hostile)
    chosen(scores, [{"where": "signals.words > 2"}], "clean")
    assert main(["curate", "report", str(scores.folder), "clean", "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 4
    assert "Dropped by <code>where: signals.words &gt; 2</code> <small>2 samples</small>" in page
    assert not list(tmp_path.glob(".tercet-*"))
    assert main(["curate", "report", str(table.folder), "chosen", "--out", str(tmp_path / "other.html")]) == 0
    other = (tmp_path / "other.html").read_text()
    for title in ("signals.words", "similarity.image_text", "signals.language", "top: similarity.image_text, 50 %"):
        assert title in other


def test_pictures_and_sounds_are_shown_if_the_data_are_there(
    tmp_path: Path, pack: Pack, picture: Callable[..., bytes], sound: Callable[..., bytes]
) -> None:
    wave = np.sin(np.arange(4000) / 5)
    samples = [
        {"__key__": f"s{id}", "png": picture(id), "flac": sound(wave, 8000), "txt": f"caption {id}"} for id in range(3)
    ]
    shard = pack("0.tar", [*samples, {"__key__": "s3", "png": b"broken", "txt": "caption 3"}])
    source = open_source(str(shard))
    folder = tmp_path / "scores"
    ScoreTable.begin(folder, TableSource.of(source, str(shard)))
    place = folder / "signals" / "data"
    place.mkdir(parents=True)
    columns = {"id": range(4), "key": [f"s{id}" for id in range(4)], "text": [f"caption {id}" for id in range(4)]}
    pq.write_table(pa.table({name: list(values) for name, values in columns.items()}), place / "0.parquet")
    chosen(ScoreTable(folder), [{"where": "id <> 1"}], "clean")
    command = ["curate", "report", str(folder), "clean", "--out", str(tmp_path / "page.html")]
    assert main(command) == 0
    page = (tmp_path / "page.html").read_text()
    assert page.count('<img src="data:image/webp;base64,') == 3  # the broken one is a caption alone
    assert page.count('<audio controls preload="none" src="data:audio/mpeg;base64,') == 3
    other = pack("other.tar", samples[:2])
    with pytest.raises(UserError, match="these are not the samples of the source `data`"):
        report(folder, "clean", tmp_path / "page.html", data=other)
    shard.unlink()
    assert main(command) == 0
    assert "<img" not in (tmp_path / "page.html").read_text()


def test_a_group_that_is_no_decision_is_refused(table: ScoreTable, tmp_path: Path) -> None:
    for name, message in (("signals", "signals is not a complete decision"), ("chose", "did you mean `chosen`")):
        with pytest.raises(UserError, match=message):
            report(table.folder, name, tmp_path / "page.html")


def test_concepts_of_a_balance_are_on_the_page(tmp_path: Path) -> None:
    table = scored(tmp_path, {"signals": {"text": ["dog cat"] * 50 + ["dog"] * 50 + ["boat"] * 3}})
    chosen(table, [{"balance": {"t": 20, "least": 1}}])
    main(["curate", "report", str(tmp_path), "chosen", "--out", str(tmp_path / "page.html")])
    page = (tmp_path / "page.html").read_text()
    with (tmp_path / "chosen" / "concepts.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["entry"], row["before"]) for row in rows] == [("dog", "100"), ("cat", "50"), ("boat", "3")]
    for row in rows:
        assert f'{row["entry"]}</td><td>{row["before"]}</td><td class="count">{row["after"]}</td>' in page
