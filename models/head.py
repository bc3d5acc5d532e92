"""The contrastive head: projections into the joint space, those of terms that have their own, normalisation, and one
temperature (and bias) per term.

The head runs in fp32, whatever the dtype of the towers.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from tercet.errors import UserError
from tercet.models.losses.objective import Objective
from tercet.models.projector import Projector


class _Bounded(torch.autograd.Function):
    """A clamp that values can leave again: backward drops a gradient only if it pushes a value beyond its bound.

    After a plain clamp, a value beyond its bound never gets a gradient again. Clamping the parameter itself does not
    reach the fp32 copy that ZeRO updates.
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
    """The inverse temperature of a term, learned as its logarithm, and its bias if the objective has one."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.bounds = (math.log(objective.bounds[0]), math.log(objective.bounds[1]))
        self.log_scale = nn.Parameter(torch.tensor([math.log(objective.scale)]))
        self.bias = None if objective.bias is None else nn.Parameter(torch.tensor([objective.bias]))

    def forward(self) -> tuple[Tensor, Tensor | None]:
        scale: Tensor = _Bounded.apply(self.log_scale, *self.bounds)
        return scale.exp(), None if self.bias is None else self.bias.clone()


class Head(nn.Module):
    """One projection per modality: linear, or the identity for towers that already project into the joint space."""

    def __init__(self, widths: Mapping[str, int | None], dim: int, objectives: Mapping[str, Objective]) -> None:
        """`widths`: output width of each tower, None if it already projects. `objectives`: by the name of the term."""
        super().__init__()
        self.dim = dim
        self.dims: int | None = None  # cuts all vectors to their first dimensions, to evaluate nested prefixes
        self.projections = nn.ModuleDict(
            {m: nn.Identity() if width is None else nn.Linear(width, dim, bias=False) for m, width in widths.items()}
        )
        self.adapters = nn.ModuleDict()  # `tune` adds them, for the towers that have one
        self.projectors = nn.ModuleDict()  # `build_model` adds them, for the terms that have one
        self.temperatures = nn.ModuleDict({module_name(term): Temperature(kind) for term, kind in objectives.items()})
        for projection in self.projections.values():
            if isinstance(projection, nn.Linear):
                nn.init.normal_(projection.weight, std=projection.in_features**-0.5)

    def forward(self, modality: str, features: Tensor, projector: str = "") -> Tensor:
        """Features of one modality to unit vectors in the joint space, or in that of a projector, by its name."""
        with torch.autocast(features.device.type, enabled=False):
            own = self.projector(projector) if projector else None
            if own is not None and not own.reads_vectors:
                vectors: Tensor = own(modality, self._adapted(modality, features))
                return vectors
            joint = normalize(self.project(modality, features), dim=-1)
            return joint if own is None else own(modality, joint)

    def project(self, modality: str, features: Tensor) -> Tensor:
        """Features of one modality to vectors in the joint space, before normalisation."""
        with torch.autocast(features.device.type, enabled=False):
            vectors: Tensor = self.projections[modality](self._adapted(modality, features))[..., : self.dims]
            return vectors

    def _adapted(self, modality: str, features: Tensor) -> Tensor:
        adapted: Tensor = self.adapters[modality](features.float()) if modality in self.adapters else features.float()
        return adapted

    def tokens(self, modality: str, features: Tensor, counts: Tensor, projector: str = "") -> Tensor:
        """Tokens `[n, L, D]` to unit vectors, as `forward`. Padding becomes zero vectors."""
        after_nL = torch.arange(features.shape[1], device=counts.device) >= counts[:, None]
        vectors: Tensor = self(modality, features, projector)
        return vectors.masked_fill(after_nL[..., None], 0.0)

    def projector(self, name: str) -> Projector:
        module = self.projectors[module_name(name)]
        assert isinstance(module, Projector)
        return module

    def temperature_of(self, term: str) -> Temperature:
        module = self.temperatures[module_name(term)]
        assert isinstance(module, Temperature)
        return module

    def temperature(self, term: str) -> tuple[Tensor, Tensor | None]:
        scale, bias = self.temperature_of(term)()
        return scale, bias


def module_name(term: str) -> str:
    """The term's name without dots, which names of modules cannot have."""
    name = term.replace(".", "_")
    if hasattr(nn.ModuleDict, name):
        raise UserError(f"terms: torch does not allow the name `{term}` of a term; choose another one")
    return name
