"""Evens out a selection that kept more samples of some processes than of others.

The kept samples of all ranks stay in their order, and each rank gets its contiguous share of them. So a rank sends few
samples if the numbers differ little, and every number of processes trains on the same samples in the same order.

Shapes: k samples that this rank kept, b samples that it trains on, r rows of a field.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from tercet.data_pipelines.sample import Batch
from tercet.distributed import World


def exchange(kept: Batch, place_k: Tensor, share: int, world: World) -> tuple[Batch, Tensor]:
    """This rank's `share` of the samples that all ranks kept, and their places in the super-batch. A collective."""
    counts = world.gather(torch.tensor([len(kept)], device=world.device))
    first = int(counts[: world.rank].sum())
    number_k = torch.arange(first, first + len(kept), device=kept.ids.device)  # among the kept samples of all ranks
    to_k = number_k // share

    def send(to_r: Tensor) -> Callable[[Tensor], Tensor]:
        """How to exchange rows, from the rank that each of them goes to."""
        sent = torch.bincount(to_r, minlength=world.size).tolist()
        return lambda rows: world.exchange(rows, sent)

    fields = {}
    for name, field in kept:
        moved = replace(field, item=number_k[field.item]).each(send(to_k[field.item]))
        fields[name] = replace(moved, item=moved.item - world.rank * share)
    items = send(to_k)
    return replace(kept.each(items), fields=fields), items(place_k)
