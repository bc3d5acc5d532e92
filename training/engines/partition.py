"""The optimizer's values of each trained parameter, by the parameter's name, for any engine and number of ranks.

Moments and averages have the layout of the flat tensors that the optimizer updates. A `Fragment` says which elements
of them belong to a parameter.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tercet.training.engines.engine import Engine, Fragment


@dataclass(frozen=True)
class Placed:
    """The name and shape of a trained parameter, and this rank's fragment of it, if any."""

    name: str
    shape: torch.Size
    fragment: Fragment | None


def placed(engine: Engine) -> Iterator[Placed]:
    for name, parameter in engine.module.named_parameters():
        if parameter.requires_grad:
            shape = getattr(parameter, "ds_shape", parameter.shape)  # at ZeRO stage 3 the parameter itself is empty
            yield Placed(name, torch.Size(shape), engine.fragment(parameter))


def assemble(engine: Engine, one: Placed, values: Tensor | None) -> Tensor:
    """Assembles the whole tensor from the ranks' parts. `values` has the layout of the fragment's flat tensor.

    A collective.
    """
    total = torch.zeros(one.shape.numel(), device=engine.world.device)
    if one.fragment is not None and values is not None:
        total[one.fragment.begin : one.fragment.begin + one.fragment.count] = one.fragment.of(values)
    return (total if engine.zero == 0 else engine.world.sum(total)).view(one.shape)
