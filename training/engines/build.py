"""Builds the engine of a run: plain torch on one process, DeepSpeed on several."""

import torch
from torch import nn

from tercet.distributed import World
from tercet.training.config import RunConfig
from tercet.training.engines.deepspeed import DeepSpeedEngine
from tercet.training.engines.engine import Engine
from tercet.training.engines.plain import PlainEngine


def build_engine(model: nn.Module, optimizer: torch.optim.Optimizer, config: RunConfig, world: World) -> Engine:
    kind = PlainEngine if world.size == 1 else DeepSpeedEngine
    return kind(model, optimizer, config, world)
