"""The tutorial runs from its first block to its last, and the notebook is the tutorial."""

import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def notebook():  # type: ignore[no-untyped-def]  # a script beside the pages, in no package
    spec = spec_from_file_location("notebook", DOCS / "notebook.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_notebook_equals_the_tutorial(notebook) -> None:  # type: ignore[no-untyped-def]
    written = notebook.NOTEBOOK.read_text(encoding="utf-8")
    tutorial = notebook.TUTORIAL.read_text(encoding="utf-8")
    assert written == notebook.notebook(tutorial) + "\n", "python docs/notebook.py writes it anew"


@pytest.mark.long
def test_the_tutorial_runs(notebook, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """As a notebook would: one Python for all blocks, and the command line between them."""
    lines = ["import subprocess, sys"]
    for language, text in notebook.blocks(notebook.TUTORIAL.read_text(encoding="utf-8")):
        if language == "python":
            lines.append(text)
        if language == "sh":
            words = [line.split() for line in text.splitlines()]
            lines += [f"subprocess.run([sys.executable, '-m', *{call!r}], check=True)" for call in words]
    lines += [
        "best = run.results['text→image R@1']",
        "assert best.low > 2 * best.chance",
    ]
    script = tmp_path / "tutorial.py"
    script.write_text("\n".join(lines), encoding="utf-8")
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a yellow ring on brown" in done.stdout.splitlines()[-5]
    assert (tmp_path / "runs/pictures/report.html").is_file()
