"""A run loads only the libraries that its towers and data use."""

import json
import subprocess
import sys
from pathlib import Path

from tests.training.tiny import MODEL, recipe

UNUSED = ("deepspeed", "open_clip", "peft", "timm", "torchaudio", "torchvision", "transformers", "webdataset")
PROGRAM = """
import json, sys
from tercet.training.config import RunConfig
from tercet.training.run import train
if __name__ == "__main__":
    train(RunConfig.model_validate(json.loads(sys.argv[1])))
    print(json.dumps([name for name in json.loads(sys.argv[2]) if name in sys.modules]))
"""


def test_a_run_of_one_process_with_small_towers_loads_no_library_that_it_does_not_use(
    world_folder: Path, tmp_path: Path
) -> None:
    run = recipe(world_folder, tmp_path / "run", steps=2, pairs={"image-text": 1.0}, memories={})
    run["model"] = {name: MODEL[name] for name in ("dim", "image", "text")}
    run["data"] |= {"val": {"scenes": str(world_folder / "val")}}
    command = [sys.executable, "-c", PROGRAM, json.dumps(run), json.dumps(UNUSED)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout.splitlines()[-1]) == []
    assert "R@1" in answer.stdout, "nothing was evaluated"
