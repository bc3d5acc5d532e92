"""What the galleries of a report show."""

import io
from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from tercet.data_pipelines.sample import Sample
from tercet.eval.embedding.embed import EmbeddingTable
from tercet.eval.report.gallery import exhibit, galleries
from tests.eval.reported import RATE, table


def test_the_report_draws_other_modalities_as_lines() -> None:
    """Of a rising and a falling line, the first lies low on the left and high on the right."""
    rising = np.linspace(0, 1, 40, dtype=np.float32)
    shown = exhibit(Sample("a", 0, 0, {"series": np.stack([rising, 1 - rising], axis=1)}), "series", 16000)
    assert shown.image is not None
    pixels = np.asarray(Image.open(io.BytesIO(shown.image)).convert("RGB")).astype(int)
    bright = pixels.sum(axis=2)
    corners = bright[-6:, :12].max(), bright[:6, -12:].max(), bright[:6, :12].max(), bright[-6:, -12:].max()
    assert corners[0] > corners[2], corners
    assert corners[1] > corners[3], corners
    assert min(corners) > bright[60:68, :8].max()


def test_a_gallery_shows_the_first_queries_then_the_first_failure() -> None:
    known = table(40)
    (wall,) = [wall for wall in galleries(known, small_sample, RATE) if (wall.query, wall.key) == ("text", "image")]
    scores = known.vectors["text"] @ known.vectors["image"].T
    wrong = next(row for row in range(3, 40) if int(scores[row].argmax()) != row)
    assert [search.query.text.split()[1] for search in wall.searches] == ["0", "1", "2", str(wrong)]
    for row, search in zip([0, 1, 2, wrong], wall.searches, strict=True):
        order = scores[row].argsort(descending=True)[:5].tolist()
        assert [hit.exhibit.caption.split()[1] for hit in search.hits] == [str(item) for item in order]
        assert [hit.correct for hit in search.hits] == [item == row for item in order]


def test_a_gallery_shows_the_caption_that_was_found_and_not_the_first_one_of_its_sample() -> None:
    known = table(6)
    rows = {"image": torch.arange(6), "text": torch.arange(6).repeat_interleave(2)}
    vectors = {"image": known.vectors["image"], "text": known.vectors["image"].repeat_interleave(2, dim=0)}
    vectors["text"][::2] *= -1
    found = galleries(EmbeddingTable(vectors, rows, known.samples), twice_captioned, RATE)
    (wall,) = [wall for wall in found if wall.query == "image"]
    assert [search.hits[0].exhibit.text for search in wall.searches] == ["second 0", "second 1", "second 2"]
    (wall,) = [wall for wall in found if wall.query == "text"]
    assert [search.query.text for search in wall.searches[:3]] == ["first 0", "second 0", "first 1"]


def twice_captioned(number: int) -> Sample:
    return replace(small_sample(number), text=(f"first {number}", f"second {number}"))


def small_sample(number: int) -> Sample:
    sound = np.random.default_rng(0).random(RATE // 4, np.float32)
    media = {"image": np.zeros((8, 8, 3), np.uint8), "audio": sound}
    return Sample(f"s{number}", number, number, media, (f"number {number}",))
