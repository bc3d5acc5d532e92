"""Where each rank's optimizer keeps its part of every parameter, the same at every ZeRO stage.

DeepSpeed flattens parameters into partitions and hands those to the optimizer; moments and averages live on these flat
tensors. Through a `Fragment` they are read and written by the parameter's own name, whatever the stage and the world.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tercet.training.engine import Engine


@dataclass(frozen=True)
class Fragment:
    """Elements `begin … begin + count` of a parameter stand at `offset` of a flat tensor that the optimizer steps."""

    flat: Tensor
    offset: int
    begin: int
    count: int

    def of(self, values: Tensor) -> Tensor:
        """The fragment's part of anything laid out like its flat tensor."""
        return values.view(-1)[self.offset : self.offset + self.count]

    def copy(self, whole: Tensor, into: Tensor) -> None:
        """Copies its part of the parameter's `whole` values to its place in `into`, laid out like the flat tensor."""
        self.of(into).copy_(whole.view(-1)[self.begin : self.begin + self.count])


@dataclass(frozen=True)
class Placed:
    """A trained parameter by name, and this rank's fragment of it, if any."""

    name: str
    shape: torch.Size
    fragment: Fragment | None


def placed(engine: Engine) -> Iterator[Placed]:
    locate = {0: _whole, 1: _in_flat_group, 2: _in_flat_group, 3: _in_partition}[engine.zero]
    for name, parameter in engine.module.named_parameters():
        if parameter.requires_grad:
            shape = parameter.ds_shape if engine.zero == 3 else parameter.shape  # type: ignore[attr-defined]
            yield Placed(name, torch.Size(shape), locate(engine, parameter))


def _whole(engine: Engine, parameter: nn.Parameter) -> Fragment:
    return Fragment(parameter, 0, 0, parameter.numel())


def _in_flat_group(engine: Engine, parameter: nn.Parameter) -> Fragment | None:
    mapping = parameter._hp_mapping  # type: ignore[attr-defined]
    if mapping is None:
        return None
    flat = engine.engine.optimizer.single_partition_of_fp32_groups[mapping.param_group_index]
    here = mapping.hp_fragment_address
    return Fragment(flat, here.start, mapping.lp_fragment_address.start, here.numel)


def _in_partition(engine: Engine, parameter: nn.Parameter) -> Fragment | None:
    optimizer = engine.engine.optimizer
    group, offset, size = optimizer.grad_position[optimizer.get_param_id(parameter)]
    begin = size * engine.world.rank
    count = min(size, parameter.ds_numel - begin)  # type: ignore[attr-defined]  # the last partition is padded
    return Fragment(optimizer.fp32_partitioned_groups_flat[group], offset, begin, count) if count > 0 else None


def assemble(engine: Engine, one: Placed, values: Tensor | None) -> Tensor:
    """The whole of what ranks hold in parts; `values` is laid out like the fragment's flat tensor. A collective."""
    total = torch.zeros(one.shape.numel(), device=engine.world.device)
    if one.fragment is not None and values is not None:
        total[one.fragment.begin : one.fragment.begin + one.fragment.count] = one.fragment.of(values)
    return (total if engine.zero == 0 else engine.world.sum(total)).view(one.shape)
