"""Runs the commands for MCL that docs/negatives.md and the recipe `mcl` show, unchanged, on a small data set."""

import csv
import json
import re
import shlex
import tarfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import yaml

from tercet.command import main
from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.data_pipelines.builtin.dataset import generate
from tercet.data_pipelines.columns import read_column
from tercet.data_pipelines.sample import Batch
from tercet.models.losses.terms import Outcome, Terms
from tests.training.tiny import MODEL, recipe

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/negatives.md").read_text(encoding="utf-8")
HEADER = (ROOT / "configs/recipes/mcl.yaml").read_text(encoding="utf-8")
CLUSTERS, BATCH = 2, 8


def commands(text: str, start: str) -> list[list[str]]:
    """The arguments of the commands in lines that begin like this. They find fewer clusters here."""
    lines = re.findall(rf"^{start}tercet (.+)$", text, re.MULTILINE)
    return [shlex.split(line.replace("--clusters 10", f"--clusters {CLUSTERS}"), comments=True) for line in lines]


def run(arguments: list[str], *more: str) -> list[list[int]]:
    """Runs a command. Returns the ids of the samples of each step, if it trains."""
    found: list[list[int]] = []
    call = Terms.__call__

    def look(self: Terms, batch: Batch, *rest: Any) -> Outcome:
        found.append(batch.ids.tolist())
        return call(self, batch, *rest)

    with patch.object(Terms, "__call__", look):
        assert main([*arguments, *more]) == 0
    return found


def world(folder: Path) -> Path:
    return generate(WorldConfig(train=64, val=16, combinations=0, size=32, seconds=0.5, workers=1), folder)


def labels_of(folder: str) -> np.ndarray:
    (source,) = Path(folder).iterdir()
    column = read_column(Path(folder), source.name)
    assert column.id_n.tolist() == list(range(len(column.id_n)))
    return column.values["label"]


def assert_one_cluster_a_batch(batches: list[list[int]], labels: np.ndarray) -> None:
    """Of clusters that fill a batch; the samples of smaller ones are mixed."""
    small = np.bincount(labels) < BATCH
    assert batches
    for batch in batches:
        found = set(labels[batch].tolist())
        assert len(found) == 1 or small[list(found)].all()


def test_the_commands_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world(tmp_path / "shards")
    monkeypatch.chdir(tmp_path)
    first = recipe(
        Path("shards"), Path("runs/first"), model={**MODEL, "audio": None}, pairs={"image-text": 1.0},
        steps=4, batch_size=BATCH, ema=None,
    )  # fmt: skip
    first["data"]["train"] = {"train": {"source": "shards/train"}}
    Path("first.yaml").write_text(yaml.safe_dump(first), encoding="utf-8")
    Path("second.yaml").write_text("extends: first.yaml\ndata: {train: {train: {clusters: {column: none}}}}\n")
    run(["train", "first.yaml"])
    section = PAGE.partition("\n## Batches from clusters\n")[2].partition("\n## ")[0]
    group, train, divide, evaluate = commands(section, "    ")
    run(group)
    earlier = labels_of("clusters/1")
    assert_one_cluster_a_batch(run(train), earlier)
    run(divide)
    assert (labels_of("clusters/2") // CLUSTERS).tolist() == earlier.tolist()
    run(evaluate)


def test_the_commands_of_the_recipe_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The recipe starts from a small run instead of the weights of OpenAI."""
    write_table(world(tmp_path / "shards"), tmp_path)
    monkeypatch.chdir(tmp_path)
    start = recipe(
        Path("shards"), Path("runs/start"), model={**MODEL, "audio": None}, pairs={"image-text": 1.0},
        steps=2, batch_size=BATCH, ema=None,
    )  # fmt: skip
    Path("start.yaml").write_text(yaml.safe_dump(start), encoding="utf-8")
    run(["train", "start.yaml"])
    small = ["data=photos.csv", "init=runs/start", "data.workers=0", f"batch_size={BATCH}", "epochs=1"]
    small += ["schedule.warmup=0", "precision=fp32", "log.to=[]", "model.image.unlocked=null"]
    group, train, divide, again, evaluate = commands(
        HEADER.replace("open_clip:ViT-L-14/openai", "runs/start"), "#     "
    )
    run(group)
    earlier = labels_of("clusters/1")
    assert_one_cluster_a_batch(run(train, *small), earlier)
    run(divide)
    finer = labels_of("clusters/2")
    assert (finer // CLUSTERS).tolist() == earlier.tolist()
    assert_one_cluster_a_batch(run(again, *small), finer)
    capsys.readouterr()
    run(evaluate, "--json")
    assert json.loads(capsys.readouterr().out)


def write_table(shards: Path, folder: Path) -> None:
    """The pictures and captions of the training shards as files and a table."""
    for tar in sorted((shards / "train").glob("*.tar")):
        with tarfile.open(tar) as archive:
            archive.extractall(folder / "photos", filter="data")
    pictures = sorted(path for path in (folder / "photos").iterdir() if path.suffix in (".jpg", ".png", ".webp"))
    with (folder / "photos.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["image", "text"])
        for picture in pictures:
            table.writerow([picture.relative_to(folder), picture.with_suffix(".txt").read_text().splitlines()[0]])
