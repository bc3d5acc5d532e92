"""The card of an exported folder: its facts are those of the run, its code runs, and what is unknown is said to be."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from PIL import Image

import tercet
from tercet.training.card.markdown import table
from tests.models.test_export_open_clip import CONFIGS, built
from tests.models.test_export_open_clip import folder as architectures
from tests.models.test_interop_transformers import MADE, write_tokenizer
from tests.training.test_export import trained

__all__ = ["architectures", "trained"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With the files that the code of a card reads."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.full((40, 48, 3), 90, np.uint8)).save("boat.jpg")
    soundfile.write("horn.wav", np.sin(np.arange(48_000) / 9).astype(np.float32), 48_000)
    return tmp_path


def shown(folder: Path) -> tuple[dict[str, object], str]:
    """The front matter and the rest."""
    _, front, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(front), text


def run_code(folder: Path, text: str) -> int:
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for block in blocks:
        exec(compile(block.replace("FOLDER", str(folder)), str(folder), "exec"), {})
    return len(blocks)


def row(text: str, first: str) -> list[str]:
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {first} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_facts_are_those_of_the_run(trained: Path, here: Path) -> None:
    tercet.export(trained, here / "out", license="apache-2.0", datasets=["someone/shapes"])
    front, text = shown(here / "out")
    assert front["license"] == "apache-2.0"
    assert front["datasets"] == ["someone/shapes"]
    assert front["library_name"] == "tercet"
    assert {"image", "audio", "text"} <= {*front["tags"]}  # type: ignore[misc]
    assert row(text, "train")[1:4] == ["training", f"{trained.parent.parent.name and 'world0'}/train", "96"]
    assert row(text, "steps") == ["steps", "3"]
    assert row(text, "samples trained on")[1] == "48"
    assert row(text, "weights in this folder")[1] == "averages over the steps, decay 0.9"
    assert row(text, "image-text")[1:4] == ["image, text", "infonce", "1"]
    (task,) = json.loads((trained / "eval.json").read_text())
    value, (low, high) = (task["metrics"]["text→image R@1"], task["details"]["text→image R@1"]["interval"])
    assert row(text, "text→image")[1] == f"{100 * value:.1f} ({100 * low:.1f}–{100 * high:.1f})"
    assert "| what | R@1 % (chance " in text
    assert row(text, "torch")[1:] == [json.loads((trained / "provenance.json").read_text())["torch"]] * 2
    assert "The recipe selects and filters nothing." in text
    assert "The licences of the training data: not known." in text
    assert str(trained.parent) not in text
    assert run_code(here / "out", text) == 1


def test_other_weights_than_those_that_were_evaluated_are_marked(trained: Path, here: Path) -> None:
    tercet.export(trained, here / "out", averaged=False)
    front, text = shown(here / "out")
    assert front["license"] == "unknown"
    assert "These are results of the averaged weights, and not of those in this folder." in text
    assert row(text, "weights in this folder")[1] == "those of the last step, not averages"


def test_nothing_is_known_about_weights_that_are_not_of_a_run(here: Path) -> None:
    from tercet.models.interop.folder import export_folder

    config = CONFIGS["clip"]()
    export_folder(built(config), config, here / "theirs")
    for format, library in (("open_clip", "open_clip"), ("transformers", "transformers")):
        tercet.export(here / "theirs", here / format, format)
        front, text = shown(here / format)
        assert front["library_name"] == library
        assert front["pipeline_tag"] == "zero-shot-image-classification"
        assert "What the model was trained on is not known: it was not exported from a run." in text
        assert "How the model was trained is not known." in text
        assert "No evaluation is recorded." in text
        assert run_code(here / format, text) == 2


@pytest.mark.parametrize("name", ["siglip", "clap"])
def test_the_code_of_other_models_of_transformers_runs(name: str, here: Path) -> None:
    for part in MADE[name]():
        part.save_pretrained("theirs")
    write_tokenizer(here / "theirs")
    tercet.export("hf:theirs", here / "out", "transformers")
    assert run_code(here / "out", shown(here / "out")[1]) == 2


def test_names_cannot_break_a_table() -> None:
    lines = table(("a", "b"), [("x | y\nz", "<script>"), (None, 3)])
    assert lines[2:4] == ["| x \\| y z | &lt;script> |", "| – | 3 |"]
