"""The engine of a run: the forward pass, the backward pass and the update of a model.

A step hands the engine the true gradient of the global loss with respect to this rank's rows, times the number of
ranks, because an engine averages gradients over ranks. An engine computes no part of the loss.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tercet.data_pipelines.sample import Batch
from tercet.distributed import World


@dataclass(frozen=True)
class Stepped:
    """The result of an optimizer step: the norm of the whole gradient, and whether it was finite and applied."""

    grad_norm: float
    applied: bool


@dataclass(frozen=True)
class Fragment:
    """The elements `begin … begin + count` of a parameter, which start at `offset` of the flat tensor."""

    flat: Tensor
    offset: int
    begin: int
    count: int

    def of(self, values: Tensor) -> Tensor:
        """The fragment's part of a tensor that has the layout of the flat tensor."""
        return values.view(-1)[self.offset : self.offset + self.count]

    def copy(self, whole: Tensor, into: Tensor) -> None:
        """Copies the fragment from `whole`, in the parameter's layout, to `into`, in the layout of the flat tensor."""
        self.of(into).copy_(whole.view(-1)[self.begin : self.begin + self.count])


class Engine(ABC):
    """A model and its optimizer. `zero` is the ZeRO stage: how they are sharded over ranks. At 0 they are not."""

    zero: int

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer, world: World) -> None:
        self.module, self.optimizer, self.world = module, optimizer, world

    @abstractmethod
    def __call__(
        self, batch: Batch, bf16: bool = False
    ) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, Tensor | None]]]:
        """The forward pass. `bf16` runs the towers in bf16, whatever the precision of the run."""

    @abstractmethod
    def backward(self, surrogate: Tensor) -> None:
        """Adds the gradient of `surrogate` to the gradients of all parameters."""

    @abstractmethod
    def step(self) -> Stepped:
        """Clips the gradient and updates the weights, or skips the update on all ranks. Then clears the gradients."""

    @abstractmethod
    def whole(self, parameter: nn.Parameter) -> Tensor:
        """A copy of a parameter as the forward pass sees it. A collective at stage 3."""

    @abstractmethod
    def fragment(self, parameter: nn.Parameter) -> Fragment | None:
        """The part of a trained parameter that this rank's optimizer updates, if any."""

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """The parameters and the persistent buffers of the model, by name. A collective."""
        for name, parameter in self.module.named_parameters():
            yield name, self.whole(parameter)
        persistent = self.module.state_dict().keys()
        for name, buffer in self.module.named_buffers():
            if name in persistent:
                yield name, buffer

    def set_learning_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]


def clip_gradient(module: nn.Module, most: float) -> float:
    """Scales the gradient down to the norm `most`; 0 does not clip. Returns the norm before clipping."""
    parameters = [parameter for parameter in module.parameters() if parameter.grad is not None]
    norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    found = float(norm)
    if 0 < most < found:
        nn.utils.clip_grads_with_norm_(parameters, most, norm)
    return found
