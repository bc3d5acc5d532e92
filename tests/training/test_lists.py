"""Runs on lists of samples: counted, resumed and refused, and what the command line says about them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
import torch
import yaml

from tercet.command import main
from tercet.data_pipelines.plans.list_file import ListFile
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.distributed import World
from tercet.errors import UserError
from tercet.testing import on_ranks
from tercet.training.checkpoints.plans import cursors_for
from tercet.training.checkpoints.progress import Progress
from tercet.training.config import RunConfig
from tercet.training.preflight.checks import counted, dry_run, ready
from tests.training.tiny import losses, recipe, run, saved


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """40 of the world's 96 samples, two of them three times: 44 an epoch."""
    path = tmp_path / "keep.csv"
    path.write_text("id,count\n" + "".join(f"{id},{3 if id in (0, 2) else 1}\n" for id in range(0, 80, 2)))
    return path


def values(world_folder: Path, out: Path, listed: Path, **changes: Any) -> dict[str, Any]:
    train = {"source": str(world_folder / "train"), "list": str(listed)}
    return recipe(world_folder, out, data={"train": train, "crop": None, "workers": 0}, **changes)


def interrupted_and_resumed(world: World, recipe: dict[str, Any], listed: Path) -> str:
    """Ends after two steps, and goes on with another list, and then with the first one."""
    run(world, recipe, stop=1)
    world.barrier()
    before = listed.read_text()
    refused = ""
    world.barrier()
    if world.first:
        listed.write_text(before.replace("\n4,1\n", "\n4,0\n"))
    world.barrier()
    try:
        run(world, recipe)
    except UserError as error:
        refused = str(error)
    world.barrier()
    if world.first:
        listed.write_text(before)
    world.barrier()
    run(world, recipe)
    return refused


def test_a_run_resumes_with_its_list_and_refuses_another(world_folder: Path, tmp_path: Path, listed: Path) -> None:
    config = values(world_folder, tmp_path / "run", listed, steps=4, checkpoint={"every": 1, "keep": 4})
    refused = on_ranks(interrupted_and_resumed, 2, config, listed)
    message = "the list of `train` changed since the last checkpoint (44 samples an epoch then, 43 now): bring back"
    assert [one[: len(message)] for one in refused] == [message] * 2
    (plan,) = (tmp_path / "run" / "plans").glob("*.json")
    (share,) = json.loads(plan.read_text())["shares"]
    assert (share["samples"], share["order"]) == (44, ListFile(str(listed)).digest())


def test_a_decision_of_another_engine_trains_like_the_same_list(
    world_folder: Path, tmp_path: Path, listed: Path
) -> None:
    """DuckDB decides; two steps on its Parquet give the same bits as the CSV, and so does training on it again."""
    decision = tmp_path / "scores" / "clean" / "train"
    decision.mkdir(parents=True)
    duckdb.sql(
        f"COPY (SELECT id, count > 0 AS keep, count, count / 3 AS score FROM '{listed}') TO '{decision}/0.parquet'"
    )
    for name, path in (("csv", listed), ("parquet", tmp_path / "scores" / "clean"), ("again", decision)):
        run(World(), values(world_folder, tmp_path / name, path, steps=2))
    expected = saved(tmp_path / "csv")
    for name in ("parquet", "again"):
        found = saved(tmp_path / name)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected)
        assert losses(tmp_path / name) == losses(tmp_path / "csv")


def test_an_epoch_of_a_list_has_as_many_samples_as_the_list(world_folder: Path, tmp_path: Path, listed: Path) -> None:
    sources = OpenedSources()
    config = ready(RunConfig.model_validate(values(world_folder, tmp_path, listed, epochs=2, steps=0)), sources)
    assert counted(config, World(), sources).steps == -(-2 * 44 // 16)


def test_a_stage_with_another_list_starts_at_the_beginning_of_that_list(
    world_folder: Path, tmp_path: Path, listed: Path
) -> None:
    stages: list[dict[str, Any]] = [{"name": name, "steps": 2, "set": {}} for name in ("a", "b", "c")]
    for stage in stages[1:]:
        stage["set"] = {"data.train.train.list": "other.csv"}
    config = RunConfig.model_validate(values(world_folder, tmp_path / "run", listed, steps=6, stages=stages))
    progress = Progress(step=2, stage=0, cursors={"train": 32})
    assert cursors_for(config, config.stage(0), progress) == {"train": 32}
    assert cursors_for(config, config.stage(1), progress) == {}
    assert cursors_for(config, config.stage(2), replace(progress, stage=1)) == {"train": 32}


MISTAKES = {
    "id\n96\n": r"line 2: .* has no id 96; ids go from 0 to 95",
    "ids\n3\n": "the first line is `ids`, but a list begins with the names of its columns",
    "id,count\n3,-1\n": "line 2: `-1` is not a count",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_dry_run_refuses_a_wrong_list(text: str, world_folder: Path, tmp_path: Path, listed: Path) -> None:
    listed.write_text(text)
    with pytest.raises(UserError, match=MISTAKES[text]):
        dry_run(RunConfig.model_validate(values(world_folder, tmp_path / "run", listed)))


def test_a_list_of_ids_cannot_be_combined_with_held_out_samples(
    world_folder: Path, tmp_path: Path, listed: Path
) -> None:
    """The short way to name data takes a list as well."""
    data = {"source": str(world_folder / "train"), "list": str(listed), "crop": None}
    both, whole = (recipe(world_folder, tmp_path / "run", data=data | more) for more in ({}, {"held_out": 0}))
    with pytest.raises(UserError, match=r"keep.csv lists ids, which number all samples .*list keys, or name"):
        dry_run(RunConfig.model_validate(both))
    assert dry_run(RunConfig.model_validate(whole))[0].data.train["train"].list == str(listed)


def test_the_command_line_shows_lists(
    world_folder: Path, tmp_path: Path, listed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = ListFile(str(listed)).digest()
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(values(world_folder, tmp_path / "run", listed)))
    assert main(["recipes", "show", str(path)]) == 0
    shown = capsys.readouterr().out
    assert shown.endswith(f"# data.train.train.list: {listed} (digest {digest}): 40 samples, 44 an epoch\n")
    assert yaml.safe_load(shown)["data"]["train"]["train"]["list"] == str(listed)
    assert main(["train", str(path), "--dry-run"]) == 0
    assert "listed in" in capsys.readouterr().out
    stats = ["data", "stats", str(world_folder / "train"), "--workers", "1", "--list", str(listed)]
    assert main([*stats, "--out", str(tmp_path / "stats.html")]) == 0
    message = f"{listed} (digest {digest}): 40 of 96 samples, 44 an epoch"
    assert f"list {message}" in capsys.readouterr().out
    assert message in (tmp_path / "stats.html").read_text()
    assert main([*stats, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["samples"], found["surveyed"]) == (96, 40)
    assert found["list"] == {"file": str(listed), "digest": digest, "samples": 40, "epoch": 44}
    listed.unlink()
    assert main(["recipes", "show", str(path)]) == 0
    assert f"# data.train.train.list: the list {listed} cannot be read" in capsys.readouterr().out
