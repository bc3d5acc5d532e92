"""Moves batches to the device. A thread pins the next batch while the device computes on the current one."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

from tercet.data_pipelines.sample import Batch
from tercet.data_pipelines.workers.in_order import in_order


def on_device(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Each batch on the device. Only copies from pinned memory overlap with the computation."""
    if device.type != "cuda":
        yield from (batch.to(device) for batch in batches)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="pin") as pool:
        for batch in in_order(Batch.pin, batches, pool, ahead=1):
            yield batch.to(device)
