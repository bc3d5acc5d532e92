"""DeepSpeed, set up by the one recipe under which gradients are exact at every ZeRO stage.

The trainer hands the engine the true gradient of the global loss with respect to this rank's rows, times the number of
ranks, because DeepSpeed averages over ranks. No part of the loss is computed in here.
"""

import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tercet.data_pipelines.sample import Batch
from tercet.distributed import TIMEOUT, World
from tercet.training.config import RunConfig


def import_deepspeed() -> Any:
    """Imports DeepSpeed quietly, and so that a CPU run neither compiles anything nor needs a compiler."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    os.environ.setdefault("DEEPSPEED_LOG_LEVEL", "warning")
    os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed insists on it, in a world of one too
    warnings.filterwarnings("ignore", module="deepspeed")
    # Names that DeepSpeed uses, as torch 2.11 has them.
    warnings.filterwarnings("ignore", "`torch.distributed", FutureWarning)
    import deepspeed
    from deepspeed.ops import __compatible_ops__

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    __compatible_ops__["deepspeed_shm_comm"] = False  # else gloo is replaced by an extension compiled at start
    return deepspeed


def settings(config: RunConfig, world: World) -> dict[str, Any]:
    """DeepSpeed's own configuration. Whatever it would otherwise decide by a default that matters is written out."""
    autocast = config.precision == "bf16"
    return {
        "train_micro_batch_size_per_gpu": config.batch_size // world.size,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": config.clip if config.zero else 0.0,
        "zero_optimization": {"stage": config.zero, "overlap_comm": False},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 2**31,
        # With no module called safe for it, parameters and gradients travel between ranks in fp32.
        "torch_autocast": {"enabled": autocast, "dtype": "bfloat16", "lower_precision_safe_modules": []},
    }


@dataclass(frozen=True)
class Stepped:
    """What became of an optimizer step: the norm of the whole gradient, and whether it was finite and applied."""

    grad_norm: float
    applied: bool


class Engine:
    """A model that DeepSpeed shards, runs forward and backward, and steps."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, config: RunConfig, world: World) -> None:
        deepspeed = import_deepspeed()
        backend = "nccl" if world.device.type == "cuda" else "gloo"
        deepspeed.init_distributed(dist_backend=backend, timeout=TIMEOUT, verbose=False)
        self.world, self.zero, self.clip = world, config.zero, config.clip
        self.optimizer = optimizer
        self.engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings(config, world))
        # Without ZeRO the reduction is called from here, so that the norm is known before the step.
        self.engine.enable_backward_allreduce = config.zero > 0
        self._gathered: Callable[..., Any] = deepspeed.zero.GatheredParameters

    @property
    def module(self) -> nn.Module:
        module: nn.Module = self.engine.module
        return module

    def __call__(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, Tensor | None]]]:
        vectors, temperatures = self.engine(batch)
        return vectors, temperatures

    def backward(self, surrogate: Tensor) -> None:
        self.engine.backward(surrogate, scale_wrt_gas=False)

    def step(self) -> Stepped:
        if self.zero == 0:
            return self._step_whole()
        self.engine.step()
        return Stepped(float(self.engine.get_global_grad_norm()), not self.engine.optimizer.overflow)

    def _step_whole(self) -> Stepped:
        """Stage 0 has no check of its own: one rank's NaN would poison all of them."""
        self.engine.buffered_allreduce_fallback()
        norm = float(nn.utils.clip_grad_norm_(self.module.parameters(), self.clip or float("inf")))
        applied = norm < float("inf")
        if applied:
            self.engine.step()
        self.engine.zero_grad()
        return Stepped(norm, applied)

    def set_learning_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]

    def whole(self, parameter: nn.Parameter) -> Tensor:
        """A parameter as the forward pass sees it, put together from all ranks. A collective at stage 3."""
        with self._gathered([parameter], enabled=self.zero == 3):
            return parameter.detach().clone()
