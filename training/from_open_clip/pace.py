"""How many optimizer steps their epochs are: it depends on the samples, the batch, and, for shards, on the workers."""

import csv
import json
import math
from pathlib import Path
from typing import Literal

from tercet.data_pipelines.shards.find import unbraced
from tercet.errors import UserError
from tercet.training.from_open_clip.command import Command

Kind = Literal["webdataset", "csv", "synthetic"]


def kind_of(command: Command, path: str) -> Kind:
    """What they take a path for."""
    asked: Literal["webdataset", "csv", "synthetic", "auto"] = command["--dataset-type"]
    if asked != "auto":
        return asked
    return "csv" if path.rpartition(".")[2] in ("csv", "tsv") else "webdataset"


def separator(command: Command) -> str:
    """A tab is written in several ways on a command line."""
    asked: str = command["--csv-separator"]
    return "\t" if asked in ("\\t", "$\\t", "$\t") else asked


def batch_size(command: Command) -> int:
    """Samples of one optimizer step over all processes."""
    size: int = command["--batch-size"] * command.processes * command["--accum-freq"]
    return size


def steps_an_epoch(command: Command) -> int:
    """As their loaders count: shards are rounded up to full batches of all workers, tables down."""
    samples, batch = samples_of(command), command["--batch-size"]
    if kind_of(command, command["--train-data"] or "") == "webdataset":
        workers = max(1, command["--workers"])
        batches = math.ceil(math.ceil(samples / (batch * command.processes)) / workers) * workers
    else:
        batches = math.ceil(samples / command.processes) // batch
    steps: int = batches // command["--accum-freq"]
    if not steps:
        raise UserError(f"{samples} samples make no optimizer step of {batch_size(command)}; look at --batch-size")
    return steps


def samples_of(command: Command) -> int:
    """As stated, or as the files beside the data say."""
    stated: int | None = command["--train-num-samples"]
    counted = stated or _counted(command)
    if not counted:
        raise UserError(
            f"how many steps --epochs {command['--epochs']} are depends on the data; add --train-num-samples N"
        )
    return counted


def _counted(command: Command) -> int:
    data: str = command["--train-data"] or ""
    if kind_of(command, data) == "csv" and Path(data).is_file():
        with Path(data).open(newline="", encoding="utf-8") as rows:
            return sum(1 for _ in csv.reader(rows, delimiter=separator(command))) - 1
    shards = [Path(shard) for source in data.split("::") for shard in unbraced(source)]
    sizes, length = shards[0].parent / "sizes.json", shards[0].parent / "__len__"
    if sizes.is_file():
        known = json.loads(sizes.read_text(encoding="utf-8"))
        return sum(int(known[shard.name]) for shard in shards)
    return int(length.read_text(encoding="utf-8")) if length.is_file() else 0
