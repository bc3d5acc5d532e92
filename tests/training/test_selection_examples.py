"""Examples of a selection: which samples are recorded, at which steps, and that the report shows them."""

import json
from pathlib import Path
from typing import Any

import torch

from tercet.testing import on_ranks
from tercet.training.selection.examples import due, extremes
from tests.training.test_resume import run_all
from tests.training.test_selection import selected
from tests.training.tiny import recipe

NAN = float("nan")


def test_five_steps_of_a_stage_are_recorded_from_its_first_to_its_last() -> None:
    assert [step for step in range(100, 300) if due(step, range(100, 301))] == [100, 150, 200, 250]
    assert [step for step in range(10) if due(step, range(10))] == [0, 2, 4, 7, 9]
    assert [step for step in range(3) if due(step, range(3))] == [0, 1, 2]
    assert due(7, range(7, 8))


def test_the_extremes_are_the_highest_and_the_lowest_scores_from_high_to_low() -> None:
    score = torch.tensor([5.0, NAN, 1.0, 9.0, 3.0, 3.0, -2.0, 0.0, 8.0, 2.0])
    among = torch.tensor([place != 3 for place in range(10)])
    assert extremes(score, among) == [8, 0, 4, 2, 7, 6]
    few = torch.tensor([place < 4 for place in range(10)])
    assert extremes(score, few) == [3, 0, 2]


def test_a_run_records_examples_and_its_report_shows_them(world_folder: Path, tmp_path: Path) -> None:
    """Of the first rank, also after an interruption, and of a stage that has other data."""
    out = tmp_path / "run"
    stages = [
        {"name": "scenes", "steps": 3},
        {"name": "pairs", "steps": 2, "set": {"data.train": str(world_folder / "combinations")}},
    ]
    data = {
        "train": str(world_folder / "train"), "val": str(world_folder / "val"), "crop": None, "worker": "thread",
        "values": {"wrong": "json.mismatched"},
    }  # fmt: skip
    selection = {"name": "loss", "filter_ratio": 0.5, "strata": 2, "bad": "wrong"}
    settings = {"shortcuts": 0, "candidates": 16, "tasks": ["retrieval"]}
    values = recipe(world_folder, out, data=data, selection=selection, stages=stages, eval=settings)
    del values["steps"]
    values |= {"batch_size": 12, "checkpoint": {"every": 2}}
    on_ranks(run_all, 2, [(values, 3)])
    on_ranks(run_all, 2, [(values, None)])
    lines = [json.loads(line) for line in (out / "selection_examples.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    kept = {line["step"]: line["ids"] for line in selected(out)}
    for line in lines:
        assert line["scored"] == "score"
        chosen, left = ([one["id"] for one in line[name]] for name in ("chosen", "left"))
        assert len(chosen) == len(left) == 6
        assert set(chosen) <= set(kept[line["step"]][:6])
        scores = {name: [one["score"] for one in line[name]] for name in ("chosen", "left")}
        assert all(each == sorted(each, reverse=True) for each in scores.values())
        assert scores["chosen"][0] > scores["left"][-1]
        assert {one["bad"] for name in ("chosen", "left") for one in line[name]} == {False}
    page = (out / "report.html").read_text()
    captions = {id: caption_of(world_folder / "combinations", id) for id in kept[5]}
    shown = [captions[one["id"]] for one in lines[-1]["chosen"]]
    assert all(page.count(f"<blockquote>{caption}</blockquote>") >= 1 for caption in shown)
    assert page.index("<h2>Selection</h2>") < page.index("<h3>Step 1</h3>") < page.index("<h3>Step 5</h3>")


def caption_of(folder: Path, id: int) -> Any:
    """The first caption of a sample of the shards."""
    import tarfile

    with tarfile.open(sorted(folder.glob("*.tar"))[id // 24]) as tar:
        names = sorted(name for name in tar.getnames() if name.endswith(".json"))
        text = names[id % 24].replace(".json", ".txt")
        return tar.extractfile(text).read().decode().splitlines()[0]  # type: ignore[union-attr]
