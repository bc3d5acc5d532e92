"""Optimizers by name, and which parameters each of their groups holds."""

from collections.abc import Callable, Iterable

import torch
from torch import nn

from tercet.configs.registry import Registry
from tercet.models.head import Temperature
from tercet.models.multimodal import Multimodal
from tercet.training.config import OptimizerConfig, RunConfig

Groups = list[dict[str, object]]
optimizers: Registry[Callable[[Groups, OptimizerConfig], torch.optim.Optimizer]] = Registry("optimizer")


@optimizers.register("adamw")
def adamw(groups: Groups, config: OptimizerConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps)


def build_optimizer(model: Multimodal, config: RunConfig) -> torch.optim.Optimizer:
    return optimizers.get(config.optimizer.name)(parameter_groups(model, config), config.optimizer)


def parameter_groups(model: Multimodal, config: RunConfig) -> Groups:
    """Each tower and the head by whether they decay, and the temperatures, which never do.

    `lr_scale` relates a group to the schedule.
    """
    groups: Groups = []
    for modality, tower in config.model.towers.items():
        groups += by_decay(model.towers[modality].parameters(), tower.lr_scale, config.optimizer)
    groups += by_decay(model.head.projections.parameters(), 1.0, config.optimizer)
    modules = (module for module in model.head.modules() if isinstance(module, Temperature))
    temperatures = [parameter for module in modules for parameter in module.parameters()]
    groups.append({"params": temperatures, "lr_scale": config.optimizer.scale_lr, "weight_decay": 0.0})
    return [group for group in groups if group["params"]]


def by_decay(parameters: Iterable[nn.Parameter], lr_scale: float, config: OptimizerConfig) -> Groups:
    """Gains, offsets and other parameters below two dimensions never decay."""
    trained = [p for p in parameters if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "lr_scale": lr_scale, "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "lr_scale": lr_scale, "weight_decay": 0.0},
    ]
