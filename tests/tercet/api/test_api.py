"""The Python code of the README, and the package on systems that lack DeepSpeed."""

import io
import re
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

import tercet
from tercet.api.train import Run
from tercet.command import main
from tercet.configs.catalogue import RECIPES
from tercet.distributed import World
from tercet.models.interop.folder import pretrained_folder
from tercet.testing import on_ranks
from tests.tercet.api.boats import captioned, write_table

README = (Path(__file__).resolve().parents[3] / "README.md").read_text(encoding="utf-8")


SMALL = """
pairs: {image-text: 1.0, audio-text: 1.0}
batch_size: 16
precision: fp32
data: {workers: 0}
eval: {every: null, before: false, wise_ft: []}
early_stopping: null
"""


def run_readme(world: World, home: Path) -> tuple[str, str]:
    """Its Python as it stands, with a tiny model of three modalities for open_clip's, in a recipe of small batches."""
    write_table(home / "photos.csv", range(48), "horn.wav")
    recipes = home / "recipes"
    recipes.mkdir()
    (recipes / "finetune_clip.yaml").write_text(f"extends: {RECIPES / 'finetune_clip.yaml'}\n{SMALL}")
    features = torch.eye(3, requires_grad=True)
    names = {"image_features": features, "text_features": features, "logit_scale": torch.tensor(2.0)}
    output = io.StringIO()
    with (
        patch("tercet.configs.catalogue.RECIPES", recipes),
        patch(
            "tercet.models.interop.open_clip.pretrained_open_clip", lambda spec: pretrained_folder(home / "exported")
        ),
        patch("sys.stdout", output),
    ):
        exec(re.findall(r"```python\n(import tercet.*?)```", README, re.DOTALL)[0], names)
    assert features.grad is not None
    return output.getvalue(), names["run"]._repr_html_()  # type: ignore[attr-defined]


def test_the_python_code_of_readme_runs(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shutil.copytree(home, tmp_path / "home"))
    ((printed, html),) = on_ranks(run_readme, 1, tmp_path / "home")
    assert re.search(r"Retrieval · val\.csv · 12 candidates", printed)
    assert re.search(r"class from image +\d+\.\d", printed)
    hits = re.findall(r"^(-?[\d.e-]+) photos/(\d+)\.png$", printed, re.MULTILINE)
    assert len(hits) == 5
    assert [float(score) for score, _ in hits] == sorted((float(score) for score, _ in hits), reverse=True)
    assert 'href="runs/photos/report.html"' in html
    run = Run("runs/photos")
    assert run.report.is_file()
    assert run.results["image→text R@1"].low <= run.results["image→text R@1"].value
    assert tercet.load(run).name == "runs/photos"


ELSEWHERE = """
import os, sys, torch, open_clip, torchaudio, torchvision
from multiprocessing import context
del os.pread, os.sched_getaffinity, os.memfd_create, os.sysconf, context.ForkServerContext, context.ForkServerProcess
sys.modules |= dict.fromkeys(("deepspeed", "fcntl", "resource"))
import tercet
from tercet.command import main
for command in (
    "eval exported retrieval --data val.csv", "compare exported exported --data val.csv",
    "embed exported --data val.csv --out embedded", "search exported boat.jpg --data photos -k 2",
    "eval exported retrieval --data shards", "eval exported retrieval --data hf:saved",
    "data check shards --workers 2", "data check hf:saved --workers 1",
):
    assert main(command.split()) == 0, command
assert len(tercet.evaluate(tercet.load("exported"), data="val.csv"))
from concurrent.futures import ThreadPoolExecutor
from tercet.doctor.machine import machine
from tercet.system import pread
with open("shards/000000.tar", "rb") as file, ThreadPoolExecutor(4) as threads:
    whole = file.read()
    pieces = list(threads.map(lambda start: pread(file.fileno(), 50, start), range(5000)))
assert pieces == [whole[start : start + 50] for start in range(5000)]
assert [finding.name for finding in machine()][-1] == "free disk"
"""


def test_all_but_training_works_without_deepspeed_and_on_other_systems(home: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    assert main(["data", "pack", "val.csv", "--out", "shards"]) == 0
    shutil.rmtree(home / "shards" / ".index")
    (home / "saved").mkdir()
    (home / "saved" / "state.json").write_text('{"_data_files": [{"filename": "0.arrow"}]}')
    rows = [{"image": (home / f"photos/{row}.png").read_bytes(), "caption": captioned(row)} for row in range(48, 60)]
    table = pa.Table.from_pylist(rows)
    with pa.ipc.new_stream(home / "saved" / "0.arrow", table.schema) as stream:
        stream.write_table(table)
    found = subprocess.run([sys.executable, "-c", ELSEWHERE], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert "undecided" in found.stdout


def test_importing_tercet_does_not_import_torch() -> None:
    check = "import sys, tercet; dir(tercet); sys.exit('torch' in sys.modules or 'embed' not in dir(tercet))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
    with pytest.raises(AttributeError, match="`tercet` has no attribute `evaluat`"):
        tercet.evaluat  # noqa: B018  # what a misspelt name raises
