"""The figures of the pages are what their script draws, are readable, and say in words what they show."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
FIGURES = sorted((DOCS / "figures").glob("*.svg"))
SVG = "{http://www.w3.org/2000/svg}"
LETTER = 0.55  # the mean width of letters in a wide font, as a share of its size


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw", DOCS / "figures/draw.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_script_draws_the_figures_of_the_pages(tmp_path: Path) -> None:
    script().draw(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        path.name: path.read_text() for path in FIGURES
    }


@pytest.mark.parametrize("path", FIGURES, ids=lambda path: path.stem)
def test_a_figure_is_readable_on_a_phone(path: Path) -> None:
    """No word is smaller than 11 pixels at a width of 340, and none ends outside of the figure."""
    root = ElementTree.parse(path).getroot()
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert width <= 340
    assert root.find(f"{SVG}title") is not None
    assert root.find(f".//{SVG}script") is None
    for text in root.iter(f"{SVG}text"):
        size, x, words = float(text.attrib["font-size"]), float(text.attrib["x"]), text.text or ""
        long = LETTER * size * len(words)
        left = x - long * {"start": 0, "middle": 0.5, "end": 1}[text.attrib["text-anchor"]]
        assert size >= 11
        assert left >= 0 and left + long <= width, words  # noqa: PT018
        assert float(text.attrib["y"]) <= height - 6


@pytest.mark.parametrize("path", FIGURES, ids=lambda path: path.stem)
def test_a_page_shows_a_figure_and_describes_it(path: Path) -> None:
    pages = [page.read_text() for page in DOCS.glob("*.md")]
    found = [alt for page in pages for alt in re.findall(rf"!\[([^]]+)\]\(figures/{path.name}\)", page)]
    assert len(found) == 1
    assert len(found[0].split()) > 15
