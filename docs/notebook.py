"""The tutorial as a notebook: `python docs/notebook.py` writes `quickstart.ipynb` from `quickstart.md`.

Python blocks become cells, blocks of the shell cells that call it, and all between them text.
"""

import re
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

DOCS = Path(__file__).resolve().parent
TUTORIAL, NOTEBOOK = DOCS / "quickstart.md", DOCS / "quickstart.ipynb"
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)


class TutorialBlock(NamedTuple):
    """A part of the tutorial, in the language that it is written in."""

    language: str  # python, sh or markdown
    text: str


def blocks(tutorial: str) -> list[TutorialBlock]:
    """Splits the tutorial into text and code, in order."""
    parts = BLOCK.split(tutorial)
    found = [TutorialBlock("markdown", text.strip()) for text in parts[0::3]]
    code = [TutorialBlock(language, text.strip()) for language, text in zip(parts[1::3], parts[2::3], strict=True)]
    return [
        block
        for pair in zip(found, [*code, TutorialBlock("markdown", "")], strict=True)
        for block in pair
        if block.text
    ]


def notebook(tutorial: str) -> str:
    cells = [_cell(number, block) for number, block in enumerate(blocks(tutorial))]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return str(nbformat.writes(new_notebook(cells=cells, metadata={"kernelspec": kernel})))


def _cell(number: int, block: TutorialBlock) -> nbformat.NotebookNode:
    """A cell with a fixed id, so that the same tutorial gives the same file."""
    name = f"cell-{number:02d}"
    if block.language == "markdown":
        return new_markdown_cell(block.text, id=name)
    if block.language == "sh":
        return new_code_cell("\n".join(f"!{line}" for line in block.text.splitlines()), id=name)
    return new_code_cell(block.text, id=name)


if __name__ == "__main__":
    NOTEBOOK.write_text(notebook(TUTORIAL.read_text(encoding="utf-8")) + "\n", encoding="utf-8")
