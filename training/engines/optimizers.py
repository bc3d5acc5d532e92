"""Builds optimizers by name, and their parameter groups.

Layer-wise decay of the learning rate (Clark et al. 2020; Bao et al. 2022): the k-th block from a tower's end, counted
from 0, learns at decay^k times the tower's rate, and the stem below all L blocks at decay^L. A projection into the
joint space, in the tower or in the head, learns at the full rate.
"""

from collections.abc import Callable, Iterable

import torch
from torch import nn

from tercet.configs.registry import Registry
from tercet.models.encoders.encoder import Encoder
from tercet.models.head import Temperature
from tercet.models.multimodal import Multimodal
from tercet.training.config import RunConfig
from tercet.training.engines.config import OptimizerConfig

Groups = list[dict[str, object]]
optimizers: Registry[Callable[[Groups, OptimizerConfig], torch.optim.Optimizer]] = Registry("optimizer")


@optimizers.register("adamw")
def adamw(groups: Groups, config: OptimizerConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def build_optimizer(model: Multimodal, config: RunConfig) -> torch.optim.Optimizer:
    return optimizers.get(config.optimizer.name)(parameter_groups(model, config), config.optimizer)


def parameter_groups(model: Multimodal, config: RunConfig) -> Groups:
    """The groups of each tower and of the head, with and without weight decay, and the group of the temperatures.

    The learning rate of a group is `lr_scale` times that of the schedule.
    """
    groups: Groups = []
    for modality, tower in config.model.towers.items():
        for factor, parameters in by_depth(model.tower(modality), tower.layer_decay):
            groups += by_decay(parameters, tower.lr_scale * factor, config.optimizer)
    modules = [module for module in model.head.modules() if isinstance(module, Temperature)]
    temperatures = [parameter for module in modules for parameter in module.parameters()]
    known = set(map(id, temperatures))
    groups += by_decay((p for p in model.head.parameters() if id(p) not in known), 1.0, config.optimizer)
    groups.append({"params": temperatures, "lr_scale": config.optimizer.scale_lr, "weight_decay": 0.0})
    return [group for group in groups if group["params"]]


def by_depth(encoder: Encoder, decay: float) -> list[tuple[float, list[nn.Parameter]]]:
    """A tower's parameters by depth, the stem first, each with its factor of the tower's learning rate."""
    if decay == 1:
        return [(1.0, list(encoder.parameters()))]
    blocks = encoder.blocks()
    above = {id(parameter) for block in blocks for parameter in block}
    stem = [parameter for parameter in encoder.parameters() if id(parameter) not in above]
    return [(decay ** (len(blocks) - depth), part) for depth, part in enumerate((stem, *blocks))]


def by_decay(parameters: Iterable[nn.Parameter], lr_scale: float, config: OptimizerConfig) -> Groups:
    """Two groups: with weight decay, and without it for gains, biases and other parameters below two dimensions."""
    trained = [p for p in parameters if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "lr_scale": lr_scale, "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "lr_scale": lr_scale, "weight_decay": 0.0},
    ]
