"""The text in pictures is compared with the caption."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from tercet.data_pipelines.config import SplitConfig
from tercet.data_pipelines.curate import words_in_image as module
from tercet.data_pipelines.curate.score_group import ScoreGroup
from tercet.data_pipelines.curate.score_task import ScoreTask
from tercet.data_pipelines.curate.words_in_image import score_words_in_image
from tercet.errors import UserError
from tests.data_pipelines.curated import png, rows, scored, written

SHOWN = [
    ("BIG SALE", "a big sale of shoes"),
    ("", "a green field"),
    ("OPEN TODAY", "a dog"),
    ("LOW", "a sign"),
    (None, "no picture"),
]


def sample(number: int) -> dict[str, bytes]:
    shown, caption = SHOWN[number % len(SHOWN)]
    files = {"txt": caption.encode()} if number < 5 else {}
    if shown is None:
        return files
    picture = Image.new("RGB", (400, 120), (230, 220, 200 + number))
    ImageDraw.Draw(picture).text((20, 30), shown, fill=(10, 10, 10), font=ImageFont.load_default(size=48))
    return {**files, "png": png(np.asarray(picture))}


def words_in_image(task: ScoreTask, split: SplitConfig) -> ScoreGroup:
    return score_words_in_image(task, split, workers=1)


def fake_reader() -> Callable[[Any], list[tuple[str, float]]]:
    """Knows the pictures by their last colour."""

    def read(pixels: Any) -> list[tuple[str, float]]:
        assert pixels.shape == (120, 400, 3)
        shown = SHOWN[int(pixels[0, 0, 2] - 200) % len(SHOWN)][0]
        return [(word, 0.1 if word == "LOW" else 0.9) for word in (shown or "").split()]

    return read


def test_the_words_that_a_picture_shares_with_its_caption_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "open_reader", fake_reader)
    monkeypatch.setattr(module, "check_reader", lambda: None)
    group = scored(words_in_image, written(tmp_path / "shards", sample, 10), tmp_path / "scores")
    found = {row["id"]: (row["words_in_image"], row["words"], row["overlap"]) for row in rows(group)}
    assert found == {
        0: ("BIG\nSALE", 2, pytest.approx(2 / 5)),
        1: ("", 0, 0),
        2: ("OPEN\nTODAY", 2, 0),
        3: ("", 0, 0),  # of a low confidence
        5: ("BIG\nSALE", 2, None),  # without a caption
        6: ("", 0, None),
        7: ("OPEN\nTODAY", 2, None),
        8: ("", 0, None),
    }


def test_without_the_package_its_name_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKAGE", "no_such_package")
    with pytest.raises(UserError, match=r"needs rapidocr-onnxruntime; pip install 'tercet\[ocr\]'"):
        scored(words_in_image, written(tmp_path / "shards", sample, 10), tmp_path / "scores")


@pytest.mark.skipif(find_spec(module.PACKAGE) is None, reason="rapidocr-onnxruntime is not installed")
def test_the_package_reads_large_letters(tmp_path: Path) -> None:
    group = scored(words_in_image, written(tmp_path / "shards", sample, 4), tmp_path / "scores")
    found = {row["id"]: row["words_in_image"].replace("\n", " ") for row in rows(group)}
    assert found == {id: SHOWN[id][0] for id in range(4)}
