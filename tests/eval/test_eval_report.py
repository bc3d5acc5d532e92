"""The report: what is on the page, what must never get onto it, and whether a browser shows it."""

import io
import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F

from tercet.data_pipelines.sample import Sample
from tercet.eval.embed import EmbeddingTable
from tercet.eval.report.analysis import MEASURES, analysis_charts
from tercet.eval.report.curves import chart, charts, read_lines
from tercet.eval.report.gallery import galleries
from tercet.eval.report.held_out import held_out_chart
from tercet.eval.report.media import mp3, spectrogram, webp
from tercet.eval.report.selection import SelectedStep, selected_steps, selection_charts
from tercet.eval.report.write import write_report
from tercet.eval.result import Result, to_json
from tercet.eval.table import tabulate
from tercet.page.axis import labels, ticks, words

RATE = 16000
HOSTILE = "</script><script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">'&"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-sync", "--hide-scrollbars"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
)
WATCH = "<head><script>onerror = () => window.broken = (window.broken || 0) + 1</script>"
PROBE = """<script>
  const drawn = [...document.querySelectorAll(".chart path")].every(path => path.getBBox().width > 400);
  const whole = [...document.querySelectorAll(".results .card")].every(card => card.scrollWidth <= card.clientWidth);
  const fits = document.body.scrollWidth <= document.body.clientWidth && whole;
  document.body.dataset.probe = [window.broken || 0, fits, drawn];
</script></body>"""


def sample(number: int) -> Sample:
    tone = np.sin(2 * math.pi * (300 + 40 * number) * np.arange(RATE, dtype=np.float32) / RATE)
    image = np.full((64, 64, 3), 5 * number, np.uint8)
    return Sample(f"s{number}", number, number, {"image": image, "audio": tone}, (f"number {number} {HOSTILE}",))


def table(items: int = 12) -> EmbeddingTable:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(items, 8, generator=generator)
    vectors = {
        m: F.normalize(base + 0.7 * torch.randn(items, 8, generator=generator), dim=1)
        for m in ("image", "audio", "text")
    }
    samples = tuple(Sample(f"s{n}", n, n, text=sample(n).text) for n in range(items))
    return EmbeddingTable(vectors, {m: torch.arange(items) for m in vectors}, samples)


def results() -> list[Result]:
    common = {"task": "retrieval", "title": "Retrieval", "dataset": HOSTILE}
    return [
        Result("image→text", "R@1", 0.913, 0.871, 0.952, 0.0039, 256, shortcuts={HOSTILE: 0.123}, **common),
        Result("image→text", "median rank", 1, 1, 2, 128, 256, **common),
        Result("text→image", "R@1", 0.5, 0.4, 0.6, 0.0039, 256, **common),
    ]


def measures(step: int) -> dict[str, float]:
    """Those of a step at which they are due. The term may have any name."""
    alignment = {"image-text": 20 / step, f"{HOSTILE}/alignment": 1 + 20 / step}
    return {f"analysis/{term}/alignment": value for term, value in alignment.items()} | {
        "analysis/image/uniformity": -step / 10,
        "analysis/image-text/masked": 0.0,
    }


def selection() -> list[SelectedStep]:
    """Of step 7: three samples that were chosen, one of which is known to be bad, and one that was left."""
    chosen = [{"id": 1, "score": 2.5, "bad": False}, {"id": 2, "score": 1.5, "bad": True}]
    line = {"step": 7, "scored": "learnability", "chosen": [*chosen, {"id": 99, "score": 1.0, "bad": False}]}
    left = [{"id": 3, "score": -0.5, "bad": None}]
    return selected_steps([{**line, "left": left}], lambda id: sample(id) if id < 99 else None, RATE)


def metrics(path: Path) -> None:
    lines = [
        {
            "step": step,
            "samples": 8 * step,
            "drawn": 40 * step,
            "stage": "",
            "time": 100.0 + step,
            "loss": 6 / step,
            "loss/image-text": None if step == 3 else 2 / step,
        }
        | (measures(step) if step % 10 == 0 else {})
        | {
            "selection/learnability_chosen": 3.0 / step,
            "selection/learnability_left": -1.0,
            "selection/bad_drawn": 0.5,
            "selection/bad_chosen": 0.5 / step,
            "selection/near_ties": 0.0,
        }
        for step in range(1, 41)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 41, "lo')


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    metrics(folder / "metrics.jsonl")
    walls = galleries(table(), sample, RATE)
    facts, chosen = {HOSTILE: HOSTILE}, selection()
    return write_report(folder, HOSTILE, results(), walls, f"name: {HOSTILE}", facts, selected=chosen)


class Page(HTMLParser):
    """Every tag closed in its turn; the attributes and the text between."""

    VOID = frozenset({"meta", "img", "br", "line", "circle", "path"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "


def test_the_page_is_well_formed_and_self_contained(report: Path) -> None:
    text = report.read_text()
    page = Page(text)
    assert page.open == []
    links = [
        value or "" for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")
    ]
    assert links
    assert all(link.startswith("data:") for link in links)
    assert not re.search(r"@import|url\(|https?://", text)
    assert len(text) < 5e6


def test_html_in_names_and_captions_is_escaped(report: Path) -> None:
    page = Page(report.read_text())
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert HOSTILE in page.text
    assert f"number 3 {HOSTILE}" in page.text


def test_numbers_have_their_interval_chance_and_shortcut_baselines(report: Path) -> None:
    text = re.sub(r"\s+", " ", Page(report.read_text()).text)
    assert "image → text R@1 91.3 % 87.1–95.2 · chance 0.4" in text
    assert "image → text 91.3 87.1–95.2 0.4 12.3 1 1–2 chance 128 256" in text
    assert "text → image 50.0 40.0–60.0 0.4 – – 256" in text
    assert "40 steps · 320 samples of 1,600 drawn · 39 s" in text


def test_every_direction_has_a_gallery_whose_pictures_and_sounds_can_be_opened(report: Path) -> None:
    page = Page(report.read_text())
    assert [wall for wall in ("image → audio", "text → audio") if wall in page.text] == [
        "image → audio",
        "text → audio",
    ]
    sounds = [attributes["src"] or "" for tag, attributes in page.tags if tag == "audio"]
    assert len(sounds) >= 2 * 3 * 5 + 2 * 3
    assert all(sound.startswith("data:audio/mpeg;base64,") for sound in sounds)


def test_a_gallery_shows_the_first_queries_then_the_first_failure() -> None:
    known = table(40)
    (wall,) = [wall for wall in galleries(known, sample_of(40), RATE) if (wall.query, wall.key) == ("text", "image")]
    scores = known.vectors["text"] @ known.vectors["image"].T
    wrong = next(row for row in range(3, 40) if int(scores[row].argmax()) != row)
    assert [search.query.text.split()[1] for search in wall.searches] == ["0", "1", "2", str(wrong)]
    for row, search in zip([0, 1, 2, wrong], wall.searches, strict=True):
        order = scores[row].argsort(descending=True)[:5].tolist()
        assert [hit.exhibit.caption.split()[1] for hit in search.hits] == [str(item) for item in order]
        assert [hit.correct for hit in search.hits] == [item == row for item in order]


def sample_of(items: int):
    return lambda number: Sample(
        f"s{number}",
        number,
        number,
        {"image": np.zeros((8, 8, 3), np.uint8), "audio": np.random.default_rng(0).random(RATE // 4, np.float32)},
        (f"number {number}",),
    )


def test_webp_and_mp3_of_the_report_keep_colour_and_frequency() -> None:
    image = np.zeros((300, 200, 3), np.uint8)
    image[..., 0] = 200
    picture = Image.open(io.BytesIO(webp(image)))
    assert picture.format == "WEBP"
    assert picture.size == (85, 128)
    assert np.allclose(np.asarray(picture.convert("RGB")).mean(axis=(0, 1)), [200, 0, 0], atol=4)
    tone = np.sin(2 * math.pi * 1000 * np.arange(RATE * 12, dtype=np.float32) / RATE)
    heard, rate = soundfile.read(io.BytesIO(mp3(tone, RATE)))
    spectrum = np.abs(np.fft.rfft(heard[:RATE]))
    assert rate == RATE
    assert abs(len(heard) / RATE - 10) < 0.2
    assert abs(int(spectrum.argmax()) - 1000) <= 2


def test_a_spectrogram_shows_high_sounds_above_low_ones() -> None:
    def brightest(frequency: float) -> int:
        tone = np.sin(2 * math.pi * frequency * np.arange(RATE, dtype=np.float32) / RATE)
        return int(np.asarray(Image.open(io.BytesIO(spectrogram(tone, RATE))).convert("L")).mean(axis=1).argmax())

    low, middle, high = map(brightest, (200, 1000, 4000))
    assert low > middle > high
    assert low - middle > 20


@pytest.mark.parametrize("samples", [1, 30, 512])
def test_a_very_short_sound_can_be_played_and_drawn(samples: int) -> None:
    click = np.ones(samples, np.float32)
    assert len(soundfile.read(io.BytesIO(mp3(click, RATE)))[0]) == samples
    assert np.asarray(Image.open(io.BytesIO(spectrogram(click, RATE)))).max() > 200


def test_curves_pass_through_the_recorded_values(tmp_path: Path) -> None:
    metrics(tmp_path / "metrics.jsonl")
    records = read_lines(tmp_path / "metrics.jsonl")
    assert len(records) == 40
    (loss,) = charts(records)
    assert [line.name for line in loss.lines] == ["all", "image-text"]
    assert [len(line.points) for line in loss.lines] == [40, 39]
    left, top, right, bottom = loss.frame
    (zero, zero_words), *_, (six, six_words) = loss.y_ticks
    assert (zero_words, six_words, zero, six) == ("0", "6", bottom, top)
    for line, peak in zip(loss.lines, (6, 2), strict=True):
        for x, y, step, _ in line.points:
            assert x == pytest.approx(left + (step - 1) / 39 * (right - left), abs=0.06)
            assert y == pytest.approx(bottom - peak / step / 6 * (bottom - top), abs=0.06)


def test_each_measure_of_the_embedding_space_has_a_chart_of_the_steps_that_have_it(report: Path) -> None:
    """Those that are always zero have none."""
    drawn = analysis_charts(read_lines(report.parent / "metrics.jsonl"))
    told = {
        one.title: {line.name: [(step, float(value)) for _, _, step, value in line.points] for line in one.lines}
        for one in drawn
    }
    steps = (10, 20, 30, 40)
    assert told == {
        "Alignment": {
            "image-text": [(step, pytest.approx(20 / step, rel=1e-2)) for step in steps],
            f"{HOSTILE}/alignment": [(step, pytest.approx(1 + 20 / step, rel=1e-2)) for step in steps],
        },
        "Uniformity": {"image": [(step, -step / 10) for step in steps]},
    }
    page = Page(report.read_text())
    assert [note for _, _, note in MEASURES if note in page.text] == [note for _, _, note in MEASURES[:2]]
    assert "Embedding space" in page.text


def test_a_selection_has_charts_and_samples_that_were_chosen_and_left(report: Path) -> None:
    drawn = selection_charts(read_lines(report.parent / "metrics.jsonl"))
    assert [(one.title, [line.name for line in one.lines]) for one in drawn] == [
        ("Learnability", ["chosen", "left"]),
        ("Known bad samples", ["chosen", "drawn"]),
    ]
    assert [(step, float(value)) for _, _, step, value in drawn[1].lines[0].points][:2] == [(1, 0.5), (2, 0.25)]
    (step,) = selection()
    assert [(one.score, one.bad, len(one.exhibits)) for one in step.chosen] == [(2.5, False, 3), (1.5, True, 3)]
    assert "number 1" in step.chosen[0].exhibits[2].text
    text = re.sub(r"\s+", " ", Page(report.read_text()).text)
    assert re.search(r"Step 7 Chosen number 1 .* learnability 2.50 .*known bad learnability 1.50 Left .* -0.50", text)
    assert text.count("known bad") == 1


def test_the_held_out_curve_is_beside_the_loss_curve(tmp_path: Path) -> None:
    """The mean over the subjects of the first task, a line for each split, and chance."""
    metrics(tmp_path / "metrics.jsonl")
    with (tmp_path / "evaluations.jsonl").open("w") as lines:
        for step in (20, 40):
            splits = [(name, subject) for name in ("val", HOSTILE) for subject in ("a→b", "b→a")]
            found = [
                Result(
                    subject, metric, 0.01 * step / len(name) / len(metric), 0.1, 0.9, 0.05, 90, "retrieval", "R", name
                )
                for name, subject in splits
                for metric in ("R@1", "R@10")
            ]
            other = Result("a", "acc1", 0.9, 0.8, 1.0, 0.1, 90, "zero_shot", "Z", "val")
            print(json.dumps({"step": step, "results": to_json([*found, other], "run")}), file=lines)
    (drawn,) = held_out_chart(read_lines(tmp_path / "evaluations.jsonl"))
    assert drawn.title == "Held-out R@1 %"
    drawn_points = {line.name: [(step, float(value)) for _, _, step, value in line.points] for line in drawn.lines}
    rows = {
        name: [(step, pytest.approx(step / len(name) / 3, rel=1e-2)) for step in (20, 40)] for name in ("val", HOSTILE)
    }
    assert drawn_points == rows | {"chance": [(20, 5.0), (40, 5.0)]}
    page = Page(write_report(tmp_path, "run", found, warnings=[HOSTILE]).read_text())
    titles = re.findall(r"Loss|Held-out R@1 %", page.text)
    assert titles == ["Loss", "Held-out R@1 %"]
    assert page.open == []
    assert any(attributes.get("class") == "warning" for _, attributes in page.tags)
    assert held_out_chart(read_lines(tmp_path / "evaluations.jsonl")[:1]) == []


def test_curves_of_long_runs_are_averaged_to_few_points() -> None:
    records = [{"step": step, "lr": float(step % 2)} for step in range(1, 100_001)]
    (chart,) = charts(records)
    points = chart.lines[0].points
    assert len(points) <= 300
    assert points[-1][2] == 100_000
    assert {word for *_, word in points} <= {"0.5", "0.499", "0.501"}


def test_a_run_without_metrics_or_results_still_has_a_page(tmp_path: Path) -> None:
    page = Page(write_report(tmp_path, "bare", []).read_text())
    assert page.open == []
    assert "bare" in page.text


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(3, 8))
def test_ticks_are_round_few_and_around_the_values(low: float, span: float, about: int) -> None:
    assume(span > 1e-9 * abs(low))  # finer than that, a double has no ticks
    found = ticks(low, low + span, about)
    steps = np.diff(found)
    assert found[0] <= low + 1e-6 * span
    assert found[-1] >= low + span - 1e-6 * span
    assert 2 <= len(found) <= about + 2
    assert f"{steps[0]:.0e}"[0] in "125"


@pytest.mark.parametrize("value", [0.0, 1e-4, 7.3, 10.0, -20.0])
def test_a_value_that_never_changes_has_an_axis(value: float) -> None:
    """Such as a fixed temperature."""
    drawn = chart("Inverse temperature", {"scale": [(1, value), (2, value)]})
    (low, low_words), *_, (high, high_words) = drawn.y_ticks
    assert low > high
    assert low_words != high_words
    assert all(high <= y <= low for _, y, *_ in drawn.lines[0].points)


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (0.0, "0"),
        (0.002, "0.002"),
        (2e-5, "2e-5"),
        (1234.0, "1,234"),
        (51200.0, "51.2k"),
        (2.5e6, "2.5M"),
        (3e9, "3G"),
    ],
)
def test_numbers_on_axes_are_short(value: float, label: str) -> None:
    assert words(value) == label


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_labels_of_ticks_are_distinct(low: float, span: float) -> None:
    assume(span > 1e-9 * abs(low))
    found = ticks(low, low + span, 4)
    label = labels(found)
    assert len(set(label)) == len(found)


def test_labels_of_ticks_have_enough_digits() -> None:
    assert labels([14.22, 14.24]) == ["14.22", "14.24"]
    assert labels([0.0, 0.05]) == ["0", "0.05"]
    assert labels([51_000.0, 51_020.0]) == ["51k", "51.02k"]


def test_results_are_grouped_into_tables_by_title_and_dataset() -> None:
    (found,) = tabulate(results())
    assert found.subjects == ["image→text", "text→image"]
    assert found.metrics == ["R@1", "median rank"]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [1280, 520, 390])
def test_a_browser_shows_the_whole_report_without_errors_or_scripts_from_captions(
    report: Path, tmp_path: Path, width: int
) -> None:
    copy, profile = tmp_path / "report.html", f"--user-data-dir={tmp_path / 'profile'}"
    narrow = f"</style><style>html {{ width: {width}px }}</style>"  # a window has 500 pixels at least
    page = report.read_text().replace("<head>", WATCH).replace("</style>", narrow).replace("</body>", PROBE)
    copy.write_text(page)
    command = [CHROMIUM, *QUIET, profile, f"--window-size={width},900", "--dump-dom", copy.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert 'data-probe="0,true,true"' in shown
    assert "<title>&lt;/script" in shown
