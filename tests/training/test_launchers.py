"""The commands that people type: a plain process, torchrun and the deepspeed launcher make the same run."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.tiny import losses, recipe

BIN = Path(sys.executable).parent
LAUNCHERS = {
    "torchrun": [str(BIN / "torchrun"), "--nproc-per-node", "2", "-m", "tercet"],
    "deepspeed": [str(BIN / "deepspeed"), "--num_accelerators", "2", "--no_local_rank", "--module", "tercet"],
}


def launch(command: list[str], recipe_file: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "PATH": path}
    command = [*command, "train", str(recipe_file), *overrides]
    return subprocess.run(command, env=environment, cwd=recipe_file.parent, capture_output=True, text=True)


@pytest.fixture(scope="module")
def recipe_file(world_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve steps with an evaluation and a report at their end. JSON is YAML."""
    folder = tmp_path_factory.mktemp("launched")
    data = {"train": str(world_folder / "train"), "val": str(world_folder / "val"), "crop": None}
    values = recipe(world_folder, folder / "run", steps=12, data=data, log={"every": 4}, eval={"shortcuts": 48})
    (folder / "tiny.yaml").write_text(json.dumps(values))
    return folder / "tiny.yaml"


@pytest.fixture(scope="module")
def alone(recipe_file: Path) -> list[float]:
    done = launch([sys.executable, "-m", "tercet"], recipe_file, "out=alone")
    assert done.returncode == 0, done.stderr
    assert "step 12/12" in done.stdout
    assert "image→text" in done.stdout
    assert (recipe_file.parent / "alone" / "report.html").is_file()
    first = json.loads((recipe_file.parent / "alone" / "eval.json").read_text())[0]["details"]["image→text R@1"]
    assert list(first["shortcuts"]) == ["ridge on simple features", "ridge on random towers"]
    return losses(recipe_file.parent / "alone")


@pytest.mark.parametrize("launcher", ["torchrun", pytest.param("deepspeed", marks=pytest.mark.long)])
def test_each_launcher_gives_the_losses_of_a_single_process(
    recipe_file: Path, alone: list[float], launcher: str
) -> None:
    done = launch(LAUNCHERS[launcher], recipe_file, f"out={launcher}", "zero=3")
    assert done.returncode == 0, done.stderr
    assert "unknown inputs or outputs" not in done.stdout + done.stderr  # DeepSpeed finds the tensors of each module
    assert f"report: {launcher}/report.html" in done.stdout
    assert done.stdout.count("step 12/12") == 1, "one rank speaks"
    assert losses(recipe_file.parent / launcher) == pytest.approx(alone, rel=1e-5)
    results = [json.loads((recipe_file.parent / run / "eval.json").read_text()) for run in ("alone", launcher)]
    assert results[0][0]["metrics"].keys() == results[1][0]["metrics"].keys()


MISTAKES = {
    "batch_size=15": r"batch_size 15 does not divide by 2 processes: take 14 or 16",
    "data.train=nowhere": r"nowhere does not exist; name a folder",
    "model.image.encoder=open_clip:ViT-B-23": r"did you mean `ViT-B-32`\?",
    "bath_size=8": r"did you mean `batch_size`\?",
}


@pytest.mark.parametrize(
    "mistake", [pytest.param(one, marks=pytest.mark.long if one == "batch_size=15" else ()) for one in MISTAKES]
)
def test_a_mistake_is_an_error_of_one_line_and_exit_code_2(recipe_file: Path, mistake: str) -> None:
    ranked = mistake.startswith("batch_size")
    command = LAUNCHERS["torchrun"] if ranked else [sys.executable, "-m", "tercet"]
    done = launch(command, recipe_file, mistake, "out=wrong")
    lines = [line for line in done.stderr.splitlines() if line.startswith("tercet: ")]
    assert len(lines) == 1
    assert re.search(MISTAKES[mistake], lines[0])
    if ranked:  # torchrun returns 1 whatever its workers return, and shows where it noticed
        assert "exitcode  : 2" in done.stderr
    else:
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
