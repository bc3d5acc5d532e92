"""Optimizers by name, and which parameters each of their groups holds.

Layer-wise decay (Clark et al. 2020; Bao et al. 2022): the k-th block from a tower's end, counted from 0, learns at
decay^k times the tower's rate, and the stem, which lies below all L blocks, at decay^L. What projects into the joint
space, be it the tower's own or the head, learns at the full rate.
"""

from collections.abc import Callable, Iterable

import torch
from torch import nn

from tercet.configs.registry import Registry
from tercet.models.encoders.encoder import Encoder
from tercet.models.head import Temperature
from tercet.models.multimodal import Multimodal
from tercet.training.config import OptimizerConfig, RunConfig

Groups = list[dict[str, object]]
optimizers: Registry[Callable[[Groups, OptimizerConfig], torch.optim.Optimizer]] = Registry("optimizer")


@optimizers.register("adamw")
def adamw(groups: Groups, config: OptimizerConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def build_optimizer(model: Multimodal, config: RunConfig) -> torch.optim.Optimizer:
    return optimizers.get(config.optimizer.name)(parameter_groups(model, config), config.optimizer)


def parameter_groups(model: Multimodal, config: RunConfig) -> Groups:
    """Each tower by depth, and the head, by whether they decay; and the temperatures, which never do.

    `lr_scale` relates a group to the schedule.
    """
    groups: Groups = []
    for modality, tower in config.model.towers.items():
        for share, parameters in by_depth(model.tower(modality), tower.layer_decay):
            groups += by_decay(parameters, tower.lr_scale * share, config.optimizer)
    modules = [module for module in model.head.modules() if isinstance(module, Temperature)]
    temperatures = [parameter for module in modules for parameter in module.parameters()]
    known = set(map(id, temperatures))
    groups += by_decay((p for p in model.head.parameters() if id(p) not in known), 1.0, config.optimizer)
    groups.append({"params": temperatures, "lr_scale": config.optimizer.scale_lr, "weight_decay": 0.0})
    return [group for group in groups if group["params"]]


def by_depth(encoder: Encoder, decay: float) -> list[tuple[float, list[nn.Parameter]]]:
    """A tower's parameters with their share of its learning rate, the stem first."""
    if decay == 1:
        return [(1.0, list(encoder.parameters()))]
    blocks = encoder.blocks()
    above = {id(parameter) for block in blocks for parameter in block}
    stem = [parameter for parameter in encoder.parameters() if id(parameter) not in above]
    return [(decay ** (len(blocks) - depth), part) for depth, part in enumerate((stem, *blocks))]


def by_decay(parameters: Iterable[nn.Parameter], lr_scale: float, config: OptimizerConfig) -> Groups:
    """Gains, offsets and other parameters below two dimensions never decay."""
    trained = [p for p in parameters if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "lr_scale": lr_scale, "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "lr_scale": lr_scale, "weight_decay": 0.0},
    ]
