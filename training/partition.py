"""What the optimizer keeps of every trained parameter, by the parameter's name, whatever the engine and the world.

Moments and averages are laid out like the tensors that the optimizer steps. Through a `Fragment` they are read and
written by the parameter's own name.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tercet.training.engine import Engine, Fragment


@dataclass(frozen=True)
class Placed:
    """A trained parameter by name, and this rank's fragment of it, if any."""

    name: str
    shape: torch.Size
    fragment: Fragment | None


def placed(engine: Engine) -> Iterator[Placed]:
    for name, parameter in engine.module.named_parameters():
        if parameter.requires_grad:
            shape = getattr(parameter, "ds_shape", parameter.shape)  # at stage 3 a parameter itself is empty
            yield Placed(name, torch.Size(shape), engine.fragment(parameter))


def assemble(engine: Engine, one: Placed, values: Tensor | None) -> Tensor:
    """The whole of what ranks hold in parts; `values` is laid out like the fragment's flat tensor. A collective."""
    total = torch.zeros(one.shape.numel(), device=engine.world.device)
    if one.fragment is not None and values is not None:
        total[one.fragment.begin : one.fragment.begin + one.fragment.count] = one.fragment.of(values)
    return (total if engine.zero == 0 else engine.world.sum(total)).view(one.shape)
