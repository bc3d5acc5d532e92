"""Dropout on what each block of a transformer reads, while it trains (Srivastava et al. 2014), as in CLIP-rocket."""

from collections.abc import Iterable
from functools import partial
from typing import Any

from torch import nn
from torch.nn.functional import dropout


def drop_inputs(blocks: Iterable[nn.Module], share: float) -> None:
    for block in blocks:
        block.register_forward_pre_hook(partial(_dropped, share))


def _dropped(share: float, block: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    first, *rest = inputs
    return dropout(first, share, block.training), *rest
