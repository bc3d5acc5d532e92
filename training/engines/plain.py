"""The engine of a run on one process: plain torch, which copies no parameters or gradients."""

from math import isfinite

import torch
from torch import Tensor, nn

from tercet.data_pipelines.sample import Batch
from tercet.distributed import World
from tercet.training.config import RunConfig
from tercet.training.engines.engine import Engine, Fragment, Stepped, clip_gradient


class PlainEngine(Engine):
    """The optimizer updates the model's own parameters. The recipe's ZeRO stage has no effect."""

    zero = 0

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, config: RunConfig, world: World) -> None:
        super().__init__(model, optimizer, world)
        self.clip, self.bf16 = config.clip, config.precision == "bf16"

    def __call__(
        self, batch: Batch, bf16: bool = False
    ) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, Tensor | None]]]:
        with torch.autocast(self.world.device.type, torch.bfloat16, enabled=self.bf16):
            vectors, temperatures = self.module(batch, bf16)
        return vectors, temperatures

    def backward(self, surrogate: Tensor) -> None:
        torch.autograd.backward(surrogate)

    def step(self) -> Stepped:
        for parameter in self.module.parameters():
            if parameter.requires_grad and parameter.grad is None:  # a tower in no term: zeros, as with DeepSpeed
                parameter.grad = torch.zeros_like(parameter)
        norm = clip_gradient(self.module, self.clip)
        applied = isfinite(norm)
        if applied:
            self.optimizer.step()
        self.module.zero_grad()
        return Stepped(norm, applied)

    def whole(self, parameter: nn.Parameter) -> Tensor:
        return parameter.detach().clone()

    def fragment(self, parameter: nn.Parameter) -> Fragment:
        return Fragment(parameter, 0, 0, parameter.numel())
