"""HTML pages: bars are at their values, captions and keys are escaped, and a browser shows them."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tercet.data_pipelines.shards.read import open_shards
from tercet.data_pipelines.shards.write import write_shard
from tercet.data_pipelines.survey.check import check
from tercet.data_pipelines.survey.page import duration, share, size, write_check, write_stats
from tercet.data_pipelines.survey.plots import DECIBELS, LOGARITHMIC, Plot, PlotSpec, plot
from tercet.data_pipelines.survey.sketch import Distribution
from tercet.data_pipelines.survey.stats import survey
from tests.tercet.parsed import HOSTILE, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-sync", "--hide-scrollbars"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
)
PROBE = """<script>
  const drawn = [...document.querySelectorAll(".chart svg")].every(svg => svg.querySelectorAll("rect").length > 2);
  const inside = [...document.querySelectorAll(".chart svg text, .chart rect")].map(part => part.getBBox())
    .every(box => box.x >= 0 && box.y >= 0 && box.x + box.width <= 640 && box.y + box.height <= 220);
  const fits = document.documentElement.scrollWidth <= innerWidth;
  document.body.dataset.probe = [drawn, inside, fits];
</script></body>"""


@pytest.fixture(scope="module")
def pages(picture: Callable[..., bytes], sound: Callable[..., bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    (folder / "shards").mkdir()
    rng = np.random.default_rng(0)
    items = [
        {
            "__key__": f"{number:03d}'\"<b>&",
            "png": picture(number, (20 + number, 30)),
            "flac": sound(rng.uniform(-0.5, 0.5, 400 + 50 * number), 16000),
            "txt": f"number {number}\n{HOSTILE}",
        }
        for number in range(60)
    ]
    for number in (3, 14):
        items[number]["txt"] = b"\xff"
    write_shard(folder / "shards" / "<i>.tar", items)
    (folder / "shards" / "<s>&.tar").write_bytes(b"")
    findings = check(str(folder / "shards"), 1)
    write_check(folder / "check.html", HOSTILE, findings, 0.0, "bad_samples.jsonl")
    write_stats(folder / "stats.html", HOSTILE, survey(open_shards(str(folder / "shards" / "<i>.tar")), 1))
    return folder


@pytest.mark.parametrize("name", ["check", "stats"])
def test_a_page_is_well_formed_and_self_contained(pages: Path, name: str) -> None:
    text = (pages / f"{name}.html").read_text()
    page = Page(text)
    assert page.open == []
    assert not {"script", "img", "link", "iframe"} & {tag for tag, _ in page.tags}
    assert not any(key.startswith("on") or key in ("src", "href") for _, attributes in page.tags for key in attributes)
    assert not re.search(r"@import|url\(|https?://", text)
    assert HOSTILE in page.text


def test_a_check_page_says_what_where_and_how_often(pages: Path) -> None:
    text = re.sub(r"\s+", " ", Page((pages / "check.html").read_text()).text)
    assert "2 of 60 samples are bad. 1 of 2 shards is damaged." in text
    assert "text: not UTF-8 2 3.33 %" in text
    assert "it is empty or not a tar" in text
    assert "003'\"<b>&" in text
    assert "014'\"<b>&" in text


def bars(values: np.ndarray, measure: PlotSpec) -> Plot:
    distribution = Distribution()
    for value in values.tolist():
        distribution.add(value)
    return plot(distribution, measure)


def heights(drawn: Plot) -> np.ndarray:
    """The heights of the bars, in the units of the axis."""
    (zero, _), *_, (top, printed) = drawn.y_ticks
    unit = float(printed.replace(",", "").replace("k", "e3")) / (zero - top)
    return np.array([bar.height * unit for bar in drawn.bars])


def test_whole_numbers_have_a_bar_each() -> None:
    values = np.random.default_rng(0).binomial(30, 0.4, 4000)
    drawn = bars(values, PlotSpec("", whole=True))
    counts = np.bincount(values)[values.min() :]
    assert heights(drawn)[: len(counts)] == pytest.approx(counts[: len(drawn.bars)], abs=4)
    assert drawn.bars[0].label.startswith(f"{values.min()}: about ")


@pytest.mark.parametrize(("values", "first", "last"), [((7, 8, 9), 2, 15), ((0, 1), 0, 13), ((1, 1), 0, 13)])
def test_few_whole_numbers_are_centred_on_the_axis(values: tuple[int, ...], first: int, last: int) -> None:
    drawn = bars(np.repeat(values, 100), PlotSpec("", whole=True))
    assert drawn.bars[0].label.startswith(f"{first}: ")
    assert drawn.bars[-1].label.startswith(f"{last}: ")
    assert np.flatnonzero(heights(drawn)).tolist() == sorted({value - first for value in values})


@pytest.mark.parametrize("axis", [None, LOGARITHMIC])
def test_bars_are_at_their_values(axis: object) -> None:
    values = np.random.default_rng(0).lognormal(4, 0.5, 20_000)
    drawn = bars(values, PlotSpec("", "px", axis=axis))  # type: ignore[arg-type]
    low, high = np.quantile(values, [0.001, 0.999])
    inside = np.log(values.clip(low, high)) if axis else values.clip(low, high)
    exact, _ = np.histogram(inside, len(drawn.bars))
    assert heights(drawn).sum() == pytest.approx(len(values), rel=0.01)
    assert np.abs(heights(drawn) - exact).sum() < 0.06 * len(values)


def test_loudness_is_in_decibels() -> None:
    drawn = bars(np.array([0.1] * 60 + [0.0, 1.0]), PlotSpec("", "dBFS", axis=DECIBELS))
    assert drawn.median[1] in ("median -20 dBFS", "median -20.1 dBFS")  # right within 1 %
    assert drawn.note == "62 · -100 to 0 dBFS"


@pytest.mark.parametrize("value", [0, 1, 640])
def test_a_constant_value_is_centred(value: int) -> None:
    drawn = bars(np.full(10, value), PlotSpec("", "px"))
    assert np.count_nonzero(heights(drawn)) == 1
    assert heights(drawn).argmax() == len(drawn.bars) // 2


@pytest.mark.parametrize(
    ("part", "whole", "printed"),
    [(0, 5, "0 %"), (5, 5, "100 %"), (1, 10**6, "< 0.01 %"), (10**6 - 1, 10**6, "> 99.99 %"), (1, 3, "33.33 %")],
)
def test_small_shares_are_not_rounded_to_zero(part: int, whole: int, printed: str) -> None:
    assert share(part, whole) == printed


def test_sizes_have_readable_units() -> None:
    assert [size(value) for value in (12, 12_345, 1.5e9, 4e15)] == ["12 B", "12.3 kB", "1.5 GB", "4,000 TB"]
    assert [duration(value) for value in (0.25, 245.4, 3600, 9e7)] == ["0.25 s", "4.09 min", "1.0 h", "25,000.0 h"]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [1280, 520])
@pytest.mark.parametrize("name", ["check", "stats"])
def test_a_browser_shows_it_without_scripts_or_sideways_scrolling(
    pages: Path, tmp_path: Path, name: str, width: int
) -> None:
    copy, profile = tmp_path / "page.html", f"--user-data-dir={tmp_path / 'profile'}"
    copy.write_text((pages / f"{name}.html").read_text().replace("</body>", PROBE))
    command = [CHROMIUM, *QUIET, profile, f"--window-size={width},900", "--dump-dom", copy.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert 'data-probe="true,true,true"' in shown
    assert "<title>&lt;/script" in shown
