"""Reading alone, on one core: samples by id through an index of offsets, compared with webdataset's iterator."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import webdataset

from tercet.benchmarks.loader.pace import paces, ratio
from tercet.benchmarks.loader.shards import SMALL_BYTES, small_shards
from tercet.benchmarks.table import BenchRow
from tercet.data_pipelines.shards.read import Shards, open_shards

AT_ONCE = 32
PASSES = 5  # over all samples, for tercet: one pass is too short to measure


def reading_rows(folder: Path, rounds: int) -> list[BenchRow]:
    paths = small_shards(folder)
    shards = open_shards(paths)
    in_order, at_random = np.arange(len(shards)), np.random.default_rng(0).permutation(len(shards))
    sides: dict[str, Callable[[], float]] = {
        "in order": lambda: _ours(shards, in_order.tolist()),
        "at random": lambda: _ours(shards, at_random.tolist()),
        "peer": lambda: _theirs(paths),
    }
    measured = paces(sides, rounds)
    return [
        BenchRow(
            f"reading {order}",
            median(measured[order]),
            median(measured["peer"]),
            "webdataset's iterator",
            ratio(measured[order], measured["peer"]),
            unit="samples/s",
            sizes={"bytes": SMALL_BYTES, "samples": len(shards), "rounds": rounds},
        )
        for order in ("in order", "at random")
    ]


def _ours(shards: Shards, ids: Sequence[int]) -> float:
    start = time.perf_counter()
    for _ in range(PASSES):
        for first in range(0, len(ids), AT_ONCE):
            shards.read(ids[first : first + AT_ONCE], {"jpg", "txt"})
    return PASSES * len(ids) / (time.perf_counter() - start)


def _theirs(paths: list[str]) -> float:
    start = time.perf_counter()
    samples = sum(1 for _ in webdataset.WebDataset(paths, shardshuffle=False))
    return samples / (time.perf_counter() - start)
