"""An accelerator that is not there: its tensors are computed on the CPU, and may not meet those of the CPU.

It is the device `meta`, of which torch has kernels everywhere. Each tensor on it holds one on the CPU.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

DEVICE = torch.device("meta")
aten = torch.ops.aten


class There(Tensor):
    """A tensor on the accelerator."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "There":
        made: There = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.shape, held.stride(), held.storage_offset(), dtype=held.dtype, device=DEVICE
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} of a tensor on the accelerator, outside of its mode")


class Elsewhere(TorchDispatchMode):
    """Refuses what mixes devices, and what waits for values of the accelerator. `largest`: the most values of a tensor
    that was computed there; `products`: how many products of matrices were."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = self.products = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        there = any(isinstance(one, There) for one in given)
        moves, to = func is aten._to_copy.default, kwargs.get("device")
        if there and not moves and any(one.dim() > 0 and not isinstance(one, There) for one in given):
            raise RuntimeError(f"{func} has tensors on the CPU and on the accelerator")
        if there and func in (aten._local_scalar_dense.default, aten.nonzero.default, aten.bincount.default):
            raise RuntimeError(f"{func} waits for the accelerator")
        kwargs |= {"device": torch.device("cpu")} if to is not None else {}
        own_args, own_kwargs = tree_map_only(There, lambda one: one.held, (args, kwargs))
        found = func(*own_args, **own_kwargs)
        if (torch.device(to) if to is not None else DEVICE if there else None) != DEVICE:
            return found
        self.products += func in (aten.mm.default, aten.bmm.default)
        self.largest = max([self.largest, *(one.numel() for one in tree_leaves(found) if isinstance(one, Tensor))])
        return return_and_correct_aliasing(func, args, kwargs, tree_map_only(Tensor, There, found))
