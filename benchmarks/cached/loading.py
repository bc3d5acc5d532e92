"""The loader of stored features alone, beside indexing of tensors in memory."""

from collections.abc import Generator
from functools import partial
from statistics import median

import torch

from tercet.benchmarks.cached.case import SEED, CachedCase
from tercet.benchmarks.loader.pace import Side, pace, paces, ratio
from tercet.benchmarks.table import BenchRow

BATCHES = 60


def loader_row(case: CachedCase, rounds: int) -> BenchRow:
    sides: dict[str, Side] = {"ours": partial(of_loader, case), "peer": partial(of_tensors, case)}
    measured = paces({name: partial(pace, side, BATCHES) for name, side in sides.items()}, rounds)
    ours, peer = measured["ours"], measured["peer"]
    sizes = case.sizes() | {"rounds": rounds}
    return BenchRow(
        "loader alone", median(ours), median(peer), "tensors in memory", ratio(ours, peer), unit="samples/s",
        sizes=sizes, beyond={"samples per second": measured},
    )  # fmt: skip


def of_loader(case: CachedCase) -> Generator[int, None, None]:
    for batch in case.loader():
        yield len(batch.fields["image"])


def of_tensors(case: CachedCase) -> Generator[int, None, None]:
    """Random batches, over and over, without order, groups or ids."""
    tensors, random = case.tensors(), torch.Generator().manual_seed(SEED)
    while True:
        chosen_n = torch.randint(case.samples, (case.batch,), generator=random)
        rows = [values.index_select(0, chosen_n) for values in tensors.values()]
        yield len(rows[0])
