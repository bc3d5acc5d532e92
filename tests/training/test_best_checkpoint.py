"""Evaluation while a run trains: the same on any ranks, with unequal shares, and the best checkpoint by its name."""

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from PIL import Image

import tercet
from tercet.distributed import World
from tercet.errors import UserError
from tercet.eval.evaluator import Evaluator
from tercet.eval.result import Result, from_json, to_json
from tercet.testing import on_ranks
from tercet.training.checkpoints.by_name import checkpoint_named
from tercet.training.checkpoints.commit import committed, place, step_of
from tercet.training.checkpoints.reader import CHECKPOINTS, Saved
from tercet.training.config import RunConfig
from tercet.training.history.evaluations import Evaluations
from tercet.training.pretrained import load_model
from tests.tercet.api.boats import pixels
from tests.tercet.outside import shard
from tests.training.tiny import MODEL, recipe, run

STEPS = 4


def job(data: Path, out: Path, tasks: Sequence[str] = ("retrieval",), **changes: Any) -> dict[str, Any]:
    """40 samples of validation in batches of 16, so that two ranks have two and one, and a split of one batch."""
    val = {"all": str(data / "val"), "few": {"source": str(data / "val"), "part": [0, 0.3]}}
    evaluated = {"tasks": tasks, "every": 2, "before": True, "batch_size": 16, "report": False}
    towers = {key: value for key, value in MODEL.items() if key != "audio"}
    small = {"model": towers, "pairs": {"image-text": 1.0}, "steps": STEPS}
    values = recipe(data, out, eval=evaluated, checkpoint={"keep": 1, "best": {}}, **small)
    return {**values, "data": {**values["data"], "val": val}, **changes}


def run_all(world: World, jobs: list[tuple[dict[str, Any], int | None]]) -> None:
    for values, stop in jobs:
        run(world, values, stop)


@pytest.fixture(scope="module")
def runs(world_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run on one rank, and on two at ZeRO 0 and 3; at 3 also in two parts, with a stop in step 4. Two of its
    tasks name data: 17 pictures with captions, and 20 with classes."""
    parent = tmp_path_factory.mktemp("evaluated")
    tasks = ["retrieval", own_data(parent)]
    run(World(), job(world_folder, parent / "one", tasks, zero=0))
    parts = job(world_folder, parent / "parts", tasks, zero=3, checkpoint={"keep": 1, "every": 3, "best": {}})
    jobs = [(job(world_folder, parent / f"zero{zero}", tasks, zero=zero), None) for zero in (0, 3)]
    on_ranks(run_all, 2, [*jobs, (parts, 3), (parts, None)])
    return parent


def own_data(folder: Path) -> str:
    """A group whose tasks name a table, and a folder of CLIP_benchmark."""
    names = ["boat", "car", "owl", "cat", "dog", "fox"]
    toys = folder / "toys"
    shard(toys / "test" / "0.tar", ({"cls": str(n % 3).encode(), "png": png(n)} for n in range(20)))
    (toys / "test" / "nshards.txt").write_text("1\n")
    (toys / "classnames.txt").write_text("\n".join(names))
    (toys / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\nart of the {c}\n")
    for n in range(17):
        (folder / f"{n}.png").write_bytes(png(n))
    (folder / "drawn.csv").write_text("image,caption\n" + "".join(f"{n}.png,a drawing {n}\n" for n in range(17)))
    (folder / "toys.yaml").write_text("{extends: zero_shot, title: Toys, data: toys}")
    (folder / "drawn.yaml").write_text("{extends: retrieval, data: drawn.csv}")
    (folder / "suite.yaml").write_text("{kind: group, average: true, tasks: [toys.yaml, drawn.yaml]}")
    return str(folder / "suite.yaml")


def png(number: int) -> bytes:
    page = io.BytesIO()
    Image.fromarray(pixels(number)[:32, :32]).save(page, "png")
    return page.getvalue()


def evaluations(run: Path) -> dict[int, dict[str, float]]:
    found = map(json.loads, (run / "evaluations.jsonl").read_text().splitlines())
    return {
        line["step"]: {
            f"{of['dataset']} {name}": value for of in line["results"] for name, value in of["metrics"].items()
        }
        for line in found
    }


def steps(run: Path) -> list[int]:
    return sorted(map(step_of, committed(run / CHECKPOINTS)))


def best_before_the_end(run: Path) -> int:
    """The first step with the highest mean R@1, computed anew. The last one is evaluated after its checkpoint."""
    scored = {
        step: sum(recalls := [metrics[name] for name in metrics if re.fullmatch("(all|few) .* R@1", name)])
        / len(recalls)
        for step, metrics in evaluations(run).items()
        if step < STEPS
    }
    return max(scored, key=lambda step: (scored[step], -step))


def test_evaluations_are_the_same_on_one_and_two_ranks_at_zero_0_and_3(runs: Path) -> None:
    alone = evaluations(runs / "one")
    assert list(alone) == [0, 2, 4]
    assert {name.split()[0] for name in alone[0]} == {"all", "few", "toys", "drawn.csv"}
    for name in ("zero0", "zero3"):
        found = evaluations(runs / name)
        assert list(found) == list(alone)
        assert found[0] == pytest.approx(alone[0], abs=1e-12)  # the same weights
        recalls = {key for key in alone[4] if "@" in key}
        assert {key: found[4][key] for key in recalls} == pytest.approx(
            {key: alone[4][key] for key in recalls}, abs=0.15
        )


def test_tasks_that_name_data_have_the_results_of_tercet_eval(runs: Path, tmp_path: Path) -> None:
    """Each dataset is embedded once. The average over the tasks of a group is one over datasets. The model card lists
    the data."""
    found = from_json(json.loads((runs / "one" / "eval.json").read_text()))
    assert list(dict.fromkeys((one.dataset, one.task) for one in found)) == [
        ("all", "retrieval"), ("few", "retrieval"), ("toys", "toys"), ("drawn.csv", "drawn"), ("all datasets", "suite"),
    ]  # fmt: skip
    with patch.object(Evaluator, "_embedded", autospec=True, side_effect=Evaluator._embedded) as embedded:
        again = tercet.evaluate(runs / "one").results
    assert embedded.call_count == 4
    assert {(one.dataset, one.task, one.name): one.value for one in again} == {
        (one.dataset, one.task, one.name): one.value for one in found
    }
    given = tercet.evaluate(runs / "one", "zero_shot", runs / "toys")
    assert given[0].value == next(one.value for one in found if one.task == "toys")
    accuracy = next(one.value for one in found if one.metric == "acc1")
    recalls = [one.value for one in found if one.task == "drawn" and one.metric == "R@1"]
    assert found[-1].value == pytest.approx((accuracy + sum(recalls) / 2) / 2)
    tercet.export(runs / "one", tmp_path / "exported")
    card = (tmp_path / "exported" / "README.md").read_text(encoding="utf-8")
    assert "| toys | evaluation | toys/test | 20 |" in card


def test_an_interrupted_run_has_the_same_evaluations_bit_for_bit(runs: Path) -> None:
    whole, parts = ((runs / name / "evaluations.jsonl").read_bytes() for name in ("zero3", "parts"))
    assert whole == parts
    assert steps(runs / "parts") == steps(runs / "zero3")


def test_the_best_checkpoint_is_kept_beside_the_newest(runs: Path) -> None:
    for name in ("one", "zero0", "zero3"):
        assert steps(runs / name) == [best_before_the_end(runs / name), STEPS]


def scored(run: Path, **values: float) -> None:
    """Writes evaluations with these scores."""
    lines = Evaluations(run / "evaluations.jsonl")
    lines.path.unlink()
    for step, value in values.items():
        found = Result("a", "R@1", value, 0.0, 1.0, 0.1, 8, "retrieval", dataset="all")
        lines.add(int(step[4:]), to_json([found], "m"))


def test_checkpoints_have_names(world_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also after a kill between an evaluation and its commit, or between writing and renaming, and after damage."""
    out = tmp_path / "run"
    run(World(), job(world_folder, out, steps=4, checkpoint={"every": 1, "keep": 9, "best": {}}, zero=0))
    scored(out, step1=0.2, step2=0.6, step3=0.8, step4=0.1, step9=0.9)
    with (out / "evaluations.jsonl").open("a") as lines:
        lines.write('{"step": 10, "resu')  # a line that the kill cut off
    newest, third = (Saved(place(out / CHECKPOINTS, step)).weights(averaged=True) for step in (4, 3))
    name = "towers.text.words"
    assert not torch.equal(newest[name], third[name])
    for spec, expected in ((f"{out}@best", third), (f"{out}@3", third), (str(out), newest)):
        assert torch.equal(load_model(spec).state_dict()[name], expected[name])
    results = tercet.evaluate(f"{out}@best")  # on what the run held out
    assert {one.dataset for one in results} == {"all", "few"}
    tercet.export(f"{out}@best", tmp_path / "exported")
    card = (tmp_path / "exported" / "README.md").read_text(encoding="utf-8")
    assert "| steps | 3 |" in card
    assert "| a | 80.0 (0.0–100.0) |" in card  # the score of its own evaluation
    third_place = place(out / CHECKPOINTS, 3)
    third_place.rename(third_place.with_name(f"{third_place.name}.tmp"))
    assert checkpoint_named(out, "best").progress.step == 2
    (place(out / CHECKPOINTS, 2) / "state.json").write_text("{}")
    assert checkpoint_named(out, "best").progress.step == 1
    assert "skips the damaged checkpoint of step 2 (state.json does not match its manifest)" in capsys.readouterr().err
    for wrong, message in (
        ("3", r"has no checkpoint `3`; name the step of one, or best. It has those of 0, 1, 2, 4"),
        ("worst", r"has no checkpoint `worst`"),
        ("2", r"is damaged \(state.json does not match its manifest\); name another checkpoint"),
    ):
        with pytest.raises(UserError, match=message):
            load_model(f"{out}@{wrong}")
    scored(out, step9=0.9)
    with pytest.raises(UserError, match="has no checkpoint that was evaluated yet; train on, or leave out @best"):
        load_model(f"{out}@best")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eval": {}}, "`checkpoint.best` needs evaluations during the run: set `eval.every`"),
        ({"checkpoint": {"best": {"task": "zero_shot"}}}, "`checkpoint.best.task` is `zero_shot`, which is not one of"),
        ({"checkpoint": {"best": {"metric": "mean rank"}}}, "`mean rank` is not better if it is higher"),
        ({"early_stopping": {}}, "`checkpoint.best` and `early_stopping`, which keeps the best one too, are both set"),
    ],
)
def test_what_cannot_be_kept_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RunConfig.model_validate(job(tmp_path, tmp_path, **changes))
