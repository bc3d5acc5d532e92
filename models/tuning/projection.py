"""The projection of a tower into the joint space by an MLP: all that is trained of a locked tower (EBind, 2025).

It may first bring the tower's output to length 1, and add noise to it in training, so that it learns to project
neighbourhoods and not points (C-MCR, Wang et al. 2023). The noise follows from the seed, the step, the rank and the
chunk, as the masks of dropout do.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from tercet.models.config import ProjectionConfig


class Unit(nn.Module):
    """Rows of length 1, in training with noise of this standard deviation in each dimension."""

    def __init__(self, noise: float) -> None:
        super().__init__()
        self.noise = noise

    def forward(self, features: Tensor) -> Tensor:
        unit = normalize(features, dim=-1)
        if self.training and self.noise:
            unit = normalize(unit + self.noise * torch.randn_like(unit), dim=-1)
        return unit


def mlp(width: int, dim: int, config: ProjectionConfig) -> nn.Sequential:
    """From the output of a tower to the joint space. The last layer has the scale of a linear projection."""
    widths = [width, *[config.hidden] * (config.layers - 1)]
    layers: list[nn.Module] = [Unit(config.noise)] if config.unit else []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.GELU()]
    last = nn.Linear(widths[-1], dim, bias=False)
    nn.init.normal_(last.weight, std=widths[-1] ** -0.5)
    return nn.Sequential(*layers, last)
