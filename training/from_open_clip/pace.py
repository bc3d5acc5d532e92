"""The number of optimizer steps in an epoch of open_clip_train.

It depends on the number of samples, the batch size and, for shards, the number of workers.
"""

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
    """The kind of dataset that open_clip_train would take a path for."""
    given: Literal["webdataset", "csv", "synthetic", "auto"] = command["--dataset-type"]
    if given != "auto":
        return given
    return "csv" if path.rpartition(".")[2] in ("csv", "tsv") else "webdataset"


def separator(command: Command) -> str:
    """The separator of cells. There are several ways to write a tab on a command line."""
    given: str = command["--csv-separator"]
    return "\t" if given in ("\\t", "$\\t", "$\t") else given


def batch_size(command: Command) -> int:
    """Samples of one optimizer step over all processes."""
    size: int = command["--batch-size"] * command.processes * command["--accum-freq"]
    return size


def steps_an_epoch(command: Command) -> int:
    """Counts as open_clip_train does. It rounds shards up to full batches of all workers, and tables down."""
    samples, batch = samples_of(command), command["--batch-size"]
    if kind_of(command, command["--train-data"] or "") == "webdataset":
        workers = max(1, command["--workers"])
        batches = math.ceil(math.ceil(samples / (batch * command.processes)) / workers) * workers
    else:
        batches = math.ceil(samples / command.processes) // batch
    steps: int = batches // command["--accum-freq"]
    if not steps:
        raise UserError(f"{samples} samples are too few for a batch of {batch_size(command)}; lower --batch-size")
    return steps


def samples_of(command: Command) -> int:
    """The number of training samples: that of `--train-num-samples`, or else of the files beside the data."""
    given: int | None = command["--train-num-samples"]
    samples = given or _counted(command)
    if not samples:
        raise UserError(
            f"cannot convert --epochs {command['--epochs']} to steps without the number of samples; "
            "add --train-num-samples N"
        )
    return samples


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
