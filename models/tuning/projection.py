"""The projection of a tower into the joint space by an MLP: all that is trained of a locked tower (EBind, 2025)."""

from itertools import pairwise

from torch import nn

from tercet.models.config import ProjectionConfig


def mlp(width: int, dim: int, config: ProjectionConfig) -> nn.Sequential:
    """From the output of a tower to the joint space. The last layer has the scale of a linear projection."""
    widths = [width, *[config.hidden] * (config.layers - 1)]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.GELU()]
    last = nn.Linear(widths[-1], dim, bias=False)
    nn.init.normal_(last.weight, std=widths[-1] ** -0.5)
    return nn.Sequential(*layers, last)
