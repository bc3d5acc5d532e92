"""The symmetric contrastive head: projections into the joint space, unit vectors, one temperature (and bias) per term.

All of it runs in fp32 whatever the towers' type.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from tercet.models.losses.objective import Objective


class _Bounded(torch.autograd.Function):
    """Clamps in the forward pass; backward drops the gradient only where it would push a value at its bound outward.

    A plain clamp would stick at the bound for ever, and writing the parameter is lost on ZeRO's fp32 copy of it.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(value <= low, value >= high)
        return value.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        at_low, at_high = ctx.saved_tensors
        outward = (at_low & (grad > 0)) | (at_high & (grad < 0))
        return grad.masked_fill(outward, 0.0), None, None


class Temperature(nn.Module):
    """One term's inverse temperature, learned as its logarithm, and its bias where the objective has one."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.bounds = (math.log(objective.bounds[0]), math.log(objective.bounds[1]))
        self.log_scale = nn.Parameter(torch.tensor([math.log(objective.scale)]))
        self.bias = None if objective.bias is None else nn.Parameter(torch.tensor([objective.bias]))

    def forward(self) -> tuple[Tensor, Tensor | None]:
        scale: Tensor = _Bounded.apply(self.log_scale, *self.bounds)
        return scale.exp(), None if self.bias is None else self.bias.clone()


class Head(nn.Module):
    """Joins towers: one projection per modality, the identity where the tower already projects into the joint space."""

    def __init__(self, widths: Mapping[str, int | None], dim: int, objectives: Mapping[str, Objective]) -> None:
        """`widths`: what each modality's tower returns; None where it already projects. `objectives`: by term."""
        super().__init__()
        self.dim = dim
        self.projections = nn.ModuleDict(
            {m: nn.Identity() if width is None else nn.Linear(width, dim, bias=False) for m, width in widths.items()}
        )
        self.adapters = nn.ModuleDict()  # of the towers whose output is corrected, see `tuning`
        self.temperatures = nn.ModuleDict({module_name(term): Temperature(kind) for term, kind in objectives.items()})
        for projection in self.projections.values():
            if isinstance(projection, nn.Linear):
                nn.init.normal_(projection.weight, std=projection.in_features**-0.5)

    def forward(self, modality: str, features: Tensor) -> Tensor:
        """Features of one modality to unit vectors."""
        with torch.autocast(features.device.type, enabled=False):
            adapted = self.adapters[modality](features.float()) if modality in self.adapters else features.float()
            return normalize(self.projections[modality](adapted), dim=-1)

    def temperature_of(self, term: str) -> Temperature:
        module = self.temperatures[module_name(term)]
        assert isinstance(module, Temperature)
        return module

    def temperature(self, term: str) -> tuple[Tensor, Tensor | None]:
        scale, bias = self.temperature_of(term)()
        return scale, bias


def module_name(term: str) -> str:
    """A term's name as a module may bear it."""
    return term.replace(".", "_")
