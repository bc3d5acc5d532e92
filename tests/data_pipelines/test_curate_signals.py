"""Signals equal those of plain loops over the files, on any number of processes and after any kill."""

import json
import math
import re
import signal
import sys
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from tercet.command import main
from tercet.data_pipelines.config import SplitConfig
from tercet.data_pipelines.curate.score_group import ScoreGroup
from tercet.data_pipelines.curate.score_table import ScoreTable
from tercet.data_pipelines.curate.score_task import ScoreTask
from tercet.data_pipelines.curate.signals import caption as caption_module
from tercet.data_pipelines.curate.signals import sample as sample_module
from tercet.data_pipelines.curate.signals import specificity
from tercet.data_pipelines.curate.signals.caption import caption_signals
from tercet.data_pipelines.curate.signals.group import score_signals
from tercet.processes import server
from tercet.testing import on_ranks
from tests.data_pipelines.curated import PART, PIECE, SAMPLES, caption, killed, on_rank, rows, sample, scored, written

Rows = list[dict[str, Any]]


def signals(task: ScoreTask, split: SplitConfig) -> ScoreGroup:
    return score_signals(task, split, workers=1)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def found(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    return rows(scored(signals, shards, tmp_path_factory.mktemp("scores")))


def approx(value: float) -> Any:
    return pytest.approx(value, rel=1e-5, abs=1e-6)


def test_every_sample_has_a_row_and_faults_are_named(found: Rows) -> None:
    assert [(row["id"], row["key"]) for row in found] == [(id, f"s{id:03d}") for id in range(SAMPLES)]
    faults = {row["id"]: row["fault"] for row in found if row["fault"]}
    assert faults == {17: "image: not a known format", 18: "text: not UTF-8"}
    assert found[17]["text"] == caption(17)
    assert found[18]["text"] is None
    assert found[18]["width"] == 64


def test_pictures_are_measured(found: Rows) -> None:
    for row in found:
        data = sample(row["id"]).get("png")
        if data is None or row["id"] == 17:
            assert [row[name] for name in ("width", "aspect", "image_format", "contrast", "blank")] == [None] * 5
            continue
        picture = Image.open(BytesIO(data))
        width, height = picture.size
        assert (row["width"], row["height"], row["image_format"]) == (width, height, "PNG")
        assert (row["image_bytes"], row["aspect"]) == (len(data), approx(width / height))
        grey = np.asarray(picture, np.float64) @ [0.299, 0.587, 0.114]
        blocks = grey.reshape(32, height // 32, 32, width // 32).mean((1, 3)) / 255
        assert row["contrast"] == pytest.approx(blocks.std(), abs=0.004)  # the bytes of each step are rounded
        assert row["blank"] == (row["id"] == 10)


def test_sounds_are_measured(found: Rows) -> None:
    for row in found:
        data = sample(row["id"]).get("wav")
        if data is None:
            assert [row[name] for name in ("seconds", "rate", "loudness", "silence", "clipping")] == [None] * 5
            continue
        wave, rate = soundfile.read(BytesIO(data), always_2d=True)
        assert (row["rate"], row["channels"], row["audio_bytes"]) == (rate, wave.shape[1], len(data))
        assert row["seconds"] == approx(len(wave) / rate)
        rms = math.sqrt((wave**2).mean())
        assert row["loudness"] == approx(20 * math.log10(rms) if rms else -120)
        moments = [wave[start : start + rate // 50] for start in range(0, len(wave), rate // 50)]
        assert row["silence"] == approx(np.mean([math.sqrt((moment**2).mean()) < 0.001 for moment in moments]))
        assert row["clipping"] == approx((abs(wave.astype(np.float32)) >= np.float32(0.999)).mean())
    assert found[15]["silence"] == 1
    assert max(row["clipping"] or 0 for row in found) > 0


def test_long_sounds_are_measured_in_blocks(monkeypatch: pytest.MonkeyPatch, found: Rows, tmp_path: Path) -> None:
    from tercet.data_pipelines.decode import media

    monkeypatch.setattr(media, "BLOCK", 37)
    again = rows(scored(signals, written(tmp_path / "shards"), tmp_path / "scores"))
    for row, other in zip(found, again, strict=True):
        assert {name: other[name] and approx(other[name]) for name in ("loudness", "silence", "clipping")} == {
            name: row[name] for name in ("loudness", "silence", "clipping")
        }


def test_captions_are_measured(found: Rows) -> None:
    for row in found:
        if row["id"] == 18:
            continue
        text = caption(row["id"])
        words = re.findall(r"\w+", text.lower().replace("_", " "))
        assert (row["text"], row["captions"], row["characters"], row["words"]) == (text, 1, len(text), len(words))
        again = sum(word in words[:place] for place, word in enumerate(words))
        assert row["repeated_words"] == approx(again / max(len(words), 1))
        letters = [character for character in text if character != " "]
        signs = sum(not character.isalpha() for character in letters)
        assert row["symbols"] == approx(signs / len(letters))
        assert row["url"] == (row["id"] == 3)
        assert row["boilerplate"] == (row["id"] in (3, 5))
    assert found[9]["language"] == "de"
    assert found[13]["words"] == 0


@pytest.mark.parametrize(
    "text",
    ["photo.JPG", "DSC 00123", "© Jane Doe", "royalty-free stock photo", "Untitled", "click to enlarge", "No image"],
)
def test_boilerplate_is_found(text: str) -> None:
    assert caption_signals((text,))["boilerplate"]


@pytest.mark.parametrize("text", ["a man clicks a photo of stock cars", "images of an untitled book", "img of a cat"])
def test_sentences_are_not_boilerplate(text: str) -> None:
    assert not caption_signals((text,))["boilerplate"]


def test_without_the_package_languages_are_null(monkeypatch: pytest.MonkeyPatch) -> None:
    assert caption_signals((caption(9),))["language"] == "de"
    monkeypatch.setattr(caption_module, "knows_languages", lambda: False)
    assert caption_signals((caption(9),))["language"] is None


def test_specificity_equals_that_of_a_dictionary(found: Rows) -> None:
    words = {row["id"]: set(re.findall(r"\w+", row["text"].lower().replace("_", " "))) for row in found if row["text"]}
    count = Counter(word for each in words.values() for word in each)
    for row in found:
        own = words.get(row["id"])
        expected = np.mean([math.log(len(words) / count[word]) for word in own]) if own else None
        assert row["specificity"] == (expected and approx(expected))


def test_words_in_one_bucket_count_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(specificity, "BUCKETS", 1)
    counts = specificity.WordCounts(4, np.array([2]))
    assert counts.specificity("dog cat bird") == approx(math.log(2))
    assert counts.specificity("?!") is None


def test_captions_come_from_the_places_of_the_recipe(shards: Path, tmp_path: Path) -> None:
    again = rows(scored(signals, shards, tmp_path, captions={"json.other": 1.0}))
    assert [row["text"] for row in again] == [f"another {id}" for id in range(SAMPLES)]


def test_two_ranks_write_the_same_table(shards: Path, found: Rows, tmp_path: Path) -> None:
    on_ranks(on_rank, 2, signals, shards, tmp_path / "scores")
    group = ScoreTable(tmp_path / "scores").group("signals")
    assert rows(group) == found
    assert len(group.files("data")) == -(-SAMPLES // PART)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("after", [2, 9, 13])  # files that are written: pieces, parts of the first pass, parts
def test_a_killed_command_resumes(after: int, shards: Path, found: Rows, tmp_path: Path) -> None:
    process = server().Process(target=killed, args=(signals, shards, tmp_path, after))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("[0-9]*.parquet")}
    assert len(before) == after
    calls = []
    reader = sample_module.SignalReader.__call__
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            sample_module.SignalReader, "__call__", lambda self, ids: calls.extend(ids) or reader(self, ids)
        )
        group = scored(signals, shards, tmp_path)
    assert rows(group) == found
    assert calls == list(range(after * PIECE, SAMPLES))
    assert [
        path for path in before if path.parent.parent.name == "signals" and path.stat().st_mtime_ns != before[path]
    ] == []
    assert {path.name for path in tmp_path.rglob(".*")} == set()  # neither drafts nor the first pass


def test_the_command(shards: Path, found: Rows, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(shards), "--out", str(tmp_path / "s"), "--with", "signals", "--workers", "2"]
    assert main(["curate", "score", *arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == {"signals": SAMPLES}
    assert rows(ScoreTable(tmp_path / "s").group("signals")) == found
    assert main(["curate", "score", *arguments, "captions.txt=1"]) == 2
    assert "signals holds other values (captions changed)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--with", "signal"], "`signal` is not a group; did you mean `signals`?"),
        (["--with", "similarity"], "similarity needs a model; name it with `by`"),
        (["--by", "m", "--with", "learnability"], "learnability needs a second model"),
        (["--name", "A b"], "`A b` cannot name a group of scores"),
        (["--name", "mine"], "2 groups cannot have one name; compute one at a time"),
        (["--workers", "0"], "greater than 0"),
    ],
    ids=["unknown", "no-model", "no-reference", "bad-name", "many-names", "workers"],
)
def test_mistakes_are_explained(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["curate", "score", "nothing", "--out", str(tmp_path / "s"), *options]) == 2
    assert message in capsys.readouterr().err
