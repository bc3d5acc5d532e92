"""Tasks of a run that name data: what cannot be evaluated is refused before the first step."""

import shutil
import wave
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.distributed import World
from tercet.errors import UserError
from tercet.eval.datasets import datasets
from tercet.training.config import RunConfig
from tercet.training.preflight.tasks import check_evaluation
from tests.training.test_best_checkpoint import job, own_data
from tests.training.tiny import run

FILES = {
    "lost.yaml": "{extends: retrieval, data: none.csv}",
    "odd.yaml": "{extends: zero_shot, data: odd}",
    "named.yaml": "{extends: zero_shot, data: named}",
    "mean.yaml": "{kind: group, average: true, tasks: [zero_shot, drawn.yaml], data: named}",
    "again.yaml": "{kind: group, tasks: [retrieval], data: drawn.csv}",
    "both.yaml": "{kind: group, tasks: [retrieval], data: other/drawn.csv}",
    "heir.yaml": "{extends: drawn.yaml, title: Heir}",
    "other.yaml": "{extends: retrieval, data: other/drawn.csv}",
    "heard.yaml": "{extends: retrieval, data: heard.csv}",
    "heard.csv": "audio,caption\nbell.wav,a bell\n",
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    own_data(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(text)
    with wave.open("bell.wav", "wb") as sound:
        sound.setparams((1, 2, 16000, 0, "NONE", ""))
        sound.writeframes(bytes(3200))
    for folder in ("odd", "other"):
        Path(folder).mkdir()
    Path("other/drawn.csv").write_text(Path("drawn.csv").read_text())
    shutil.copytree("toys", "named")
    Path("toys/test").rename("odd/test")
    Path("odd/classnames.txt").write_text("boat\ncar\nowl\n")
    Path("odd/zeroshot_classification_templates.txt").write_text("a photo\n")
    return tmp_path


def test_datasets_have_the_tasks_that_name_them_and_names_of_their_own(home: Path) -> None:
    found = datasets(["drawn.yaml", "other.yaml", "again.yaml", "heir.yaml"], {})
    assert {name: [*one.tasks] for name, one in found.items()} == {
        "drawn.csv": ["drawn.yaml", "again.yaml", "heir.yaml"],
        "other/drawn.csv": ["other.yaml"],
    }


@pytest.mark.parametrize(
    ("tasks", "best", "message"),
    [
        (["lost.yaml"], None, r"task `lost`: its `data`, none\.csv, does not exist; give a path from the folder"),
        (["odd.yaml"], None, r"zeroshot_classification_templates\.txt: line 1, `a photo`, has no place for the class"),
        (["retrieval", "drawn.yaml"], None, "some of `eval.tasks` name no data, and the run holds out none for them"),
        (
            ["heir.yaml", "again.yaml", "both.yaml"],
            {"task": "both.yaml"},
            r"checkpoint\.best\.task: another of `eval\.tasks` evaluates `retrieval` on drawn\.csv, and its numbers",
        ),
        (["drawn.yaml"], {"task": "drawn.yaml", "metric": "R@1"}, None),
        (["named.yaml"], {"task": "named.yaml", "metric": "acc5"}, None),
        (["mean.yaml"], {"task": "mean.yaml", "metric": "acc1"}, None),
        (["named.yaml"], {"task": "named.yaml", "metric": "acc6"}, r"`named.yaml` has no `acc6`; did you mean `acc"),
    ],
)
def test_what_no_evaluation_can_read_is_refused(
    world_folder: Path, home: Path, tasks: list[str], best: dict[str, Any] | None, message: str | None
) -> None:
    values = job(world_folder, home / "run", tasks, checkpoint={"best": best})
    values["data"]["val"] = {}
    with nullcontext() if message is None else pytest.raises(UserError, match=message):
        check_evaluation(RunConfig.model_validate(values), OpenedSources())


def test_data_without_what_the_model_encodes_end_the_run_before_its_first_step(world_folder: Path, home: Path) -> None:
    values = job(world_folder, home / "run", ["heard.yaml"], checkpoint={})
    values["data"]["val"] = {}
    with pytest.raises(UserError, match=r"the model encodes image and text, and .* holds audio and text; name data"):
        run(World(), values)
    assert not (home / "run" / "evaluations.jsonl").exists()
