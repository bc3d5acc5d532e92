"""The page of the report: what is on it, what must never get onto it, and whether a browser shows it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tercet.eval.report.write import write_report
from tercet.eval.tables.table import tabulate
from tests.eval.reported import results
from tests.tercet.parsed import HOSTILE, Page

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


def test_a_run_without_metrics_or_results_still_has_a_page(tmp_path: Path) -> None:
    page = Page(write_report(tmp_path, "bare", []).read_text())
    assert page.open == []
    assert "bare" in page.text


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
