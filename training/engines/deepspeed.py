"""The engine of a run on several processes: DeepSpeed, configured so that gradients are exact at every ZeRO stage."""

import gc
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn

from tercet.data_pipelines.sample import Batch
from tercet.distributed import TIMEOUT, World
from tercet.training.config import RunConfig
from tercet.training.engines.engine import Engine, Fragment, Stepped, clip_gradient


def import_deepspeed() -> Any:
    """Imports DeepSpeed without its log lines and warnings, so that a CPU run compiles nothing."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    os.environ.setdefault("DEEPSPEED_LOG_LEVEL", "warning")
    os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed needs it even for one process
    warnings.filterwarnings("ignore", module="deepspeed")
    # DeepSpeed uses names of `torch.distributed` that torch 2.11 deprecates.
    warnings.filterwarnings("ignore", "`torch.distributed", FutureWarning)
    import deepspeed

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # By default DeepSpeed runs a compiler to learn whether it can compile an extension that replaces gloo, and does so.
    deepspeed.ops.__compatible_ops__ = dict.fromkeys(("deepspeed_shm_comm", "deepspeed_not_implemented"), False)
    return deepspeed


def settings(config: RunConfig, world: World) -> dict[str, Any]:
    """DeepSpeed's configuration. It sets every option whose default matters here."""
    autocast = config.precision == "bf16"
    return {
        "train_micro_batch_size_per_gpu": config.batch_size // world.size,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": config.clip if config.zero else 0.0,
        # At stages 1 and 2, contiguous gradients copy each gradient once more, which takes longer than the optimizer.
        "zero_optimization": {"stage": config.zero, "overlap_comm": False, "contiguous_gradients": config.zero == 3},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 2**31,
        # The list is empty, so that ranks exchange parameters and gradients in fp32.
        "torch_autocast": {"enabled": autocast, "dtype": "bfloat16", "lower_precision_safe_modules": []},
    }


@contextmanager
def collector_off() -> Iterator[None]:
    """Keeps the garbage collector from running. DeepSpeed looks for packages that are not installed whenever it builds
    an engine. In Python 3.11, such an import fails if the collector interrupts it to finalize an object that imports.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class DeepSpeedEngine(Engine):
    """DeepSpeed shards the model and runs the forward pass, the backward pass and the optimizer."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, config: RunConfig, world: World) -> None:
        super().__init__(model, optimizer, world)
        deepspeed = import_deepspeed()
        backend = "nccl" if world.device.type == "cuda" else "gloo"
        deepspeed.init_distributed(dist_backend=backend, timeout=TIMEOUT, verbose=False)
        self.zero, self.clip = config.zero, config.clip
        with collector_off():
            self.engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings(config, world))
        # At stage 0, `_step_whole` reduces the gradients itself: it needs their norm before the optimizer steps.
        self.engine.enable_backward_allreduce = config.zero > 0
        self._gathered: Callable[..., Any] = deepspeed.zero.GatheredParameters

    def __call__(
        self, batch: Batch, bf16: bool = False
    ) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, Tensor | None]]]:
        vectors, temperatures = self.engine(batch, bf16)
        return vectors, temperatures

    def backward(self, surrogate: Tensor) -> None:
        self.engine.backward(surrogate, scale_wrt_gas=False)

    def step(self) -> Stepped:
        if self.zero == 0:
            return self._step_whole()
        self.engine.step()
        return Stepped(float(self.engine.get_global_grad_norm()), not self.engine.optimizer.overflow)

    def _step_whole(self) -> Stepped:
        """Skips the update if the gradient is not finite. At stage 0, DeepSpeed does not check this."""
        self.engine.buffered_allreduce_fallback()
        norm = clip_gradient(self.module, self.clip)
        applied = isfinite(norm)
        if applied:
            self.engine.step()
        self.engine.zero_grad()
        return Stepped(norm, applied)

    def whole(self, parameter: nn.Parameter) -> Tensor:
        with self._gathered([parameter], enabled=self.zero == 3):
            return parameter.detach().clone()

    def fragment(self, parameter: nn.Parameter) -> Fragment | None:
        """Finds the parameter in the flat partitions that DeepSpeed hands to the optimizer."""
        if self.zero == 0:
            return Fragment(parameter, 0, 0, parameter.numel())
        return self._in_flat_group(parameter) if self.zero < 3 else self._in_partition(parameter)

    def _in_flat_group(self, parameter: nn.Parameter) -> Fragment | None:
        mapping = parameter._hp_mapping  # type: ignore[attr-defined]
        if mapping is None:
            return None
        flat = self.engine.optimizer.single_partition_of_fp32_groups[mapping.param_group_index]
        here = mapping.hp_fragment_address
        return Fragment(flat, here.start, mapping.lp_fragment_address.start, here.numel)

    def _in_partition(self, parameter: nn.Parameter) -> Fragment | None:
        optimizer = self.engine.optimizer
        group, offset, size = optimizer.grad_position[optimizer.get_param_id(parameter)]
        begin = size * self.world.rank
        count = min(size, parameter.ds_numel - begin)  # type: ignore[attr-defined]  # the last partition is padded
        return Fragment(optimizer.fp32_partitioned_groups_flat[group], offset, begin, count) if count > 0 else None
