"""Primary component matching: short captions find the main attributes of pictures (Long-CLIP, Zhang et al. 2024).

    R = μ + (X − μ) V Vᵀ,    L = InfoNCE(R / ‖R‖, short captions)

X are the vectors of the first field, μ is their mean, and the columns of V are the first principal components of X − μ.
The reconstruction R keeps the main attributes of a picture, so a short caption is compared with these alone, while
another term compares the long caption with X itself.

The principal components are those of the rows of all ranks, in fp64, so the result does not depend on the number of
processes. The gradient is exact, also through V: with the eigenvalues λ of (X − μ)ᵀ (X − μ), the projection P = V Vᵀ
changes by Σ (v_i v_jᵀ + v_j v_iᵀ) ⟨v_i, dC v_j⟩ / (λ_i − λ_j), over the kept i and the other j. Only the gap between
kept and other eigenvalues counts, so equal eigenvalues on one side do no harm.

Where this differs from the authors' code: that takes the components of each GPU's rows. Whether it brings R back to
length 1 is not verified.

Shapes: N rows of all ranks, d dimensions, k components, e the other d − k.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from tercet.models.losses.infonce import InfoNCE
from tercet.models.losses.objective import objective
from tercet.models.losses.problem import Problem, Solution


@objective("primary_component")
class PrimaryComponent(InfoNCE):
    """InfoNCE on the principal components of the first field, for short captions (Long-CLIP, Zhang et al. 2024)."""

    components: Annotated[
        int, Field(gt=0, description="how many principal components of the batch the vectors keep")
    ] = 32

    def solve(self, problem: Problem) -> Solution:
        name = next(iter(problem.fields))
        rows, coarse = problem.fields[name], Coarse.of(problem.fields[name].z_Nd, self.components)
        found = super().solve(self._with(problem, coarse))
        slope_Nd = torch.zeros_like(rows.z_Nd)
        slope_Nd[rows.own] = found.rows[name]
        found.rows[name] = coarse.push(problem.world.sum(slope_Nd))[rows.own]
        return found

    def losses_of_items(self, problem: Problem) -> Iterator[tuple[Tensor, Tensor, float]]:
        rows = next(iter(problem.fields.values()))
        return super().losses_of_items(self._with(problem, Coarse.of(rows.z_Nd, self.components)))

    def _with(self, problem: Problem, coarse: "Coarse") -> Problem:
        """The problem with the reconstruction in place of the first field's vectors."""
        name = next(iter(problem.fields))
        return replace(problem, fields={**problem.fields, name: replace(problem.fields[name], z_Nd=coarse.z_Nd)})


@dataclass(frozen=True)
class Coarse:
    """Rows that are reconstructed from their principal components, as unit vectors.

    `z_Nd` has the precision of the rows, and all else is fp64. `gap_ke` is how much the eigenvalues of kept components
    exceed the others.
    """

    z_Nd: Tensor
    centred_Nd: Tensor
    kept_dk: Tensor
    others_de: Tensor
    gap_ke: Tensor
    length_N1: Tensor

    @staticmethod
    def of(z_Nd: Tensor, components: int) -> "Coarse":
        """Fewer rows than components are reconstructed as they are."""
        x_Nd = z_Nd.double()
        mean_d = x_Nd.mean(dim=0) if len(x_Nd) else x_Nd.new_zeros(x_Nd.shape[1])
        centred_Nd = x_Nd - mean_d
        value_d, vector_dd = torch.linalg.eigh(centred_Nd.T @ centred_Nd)
        kept = components if components < min(len(x_Nd), x_Nd.shape[1]) else x_Nd.shape[1]
        split = x_Nd.shape[1] - kept  # eigenvalues ascend
        kept_dk, others_de = vector_dd[:, split:], vector_dd[:, :split]
        coarse_Nd = mean_d + centred_Nd @ kept_dk @ kept_dk.T
        gap_ke = value_d[split:, None] - value_d[None, :split]
        length_N1 = coarse_Nd.norm(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
        return Coarse(normalize(coarse_Nd, dim=1).to(z_Nd), centred_Nd, kept_dk, others_de, gap_ke, length_N1)

    def push(self, slope_Nd: Tensor) -> Tensor:
        """The gradient of the rows from that of the reconstruction."""
        if not len(slope_Nd):
            return slope_Nd
        unit_Nd, outer_Nd = self.z_Nd.double(), slope_Nd.double()
        outer_Nd = (outer_Nd - (outer_Nd * unit_Nd).sum(dim=1, keepdim=True) * unit_Nd) / self.length_N1
        of_projection_dd = self.centred_Nd.T @ outer_Nd
        turn_ke = self.kept_dk.T @ (of_projection_dd + of_projection_dd.T) @ self.others_de
        noise = torch.finfo(torch.float64).eps * self.gap_ke.abs().max() if self.gap_ke.numel() else 0.0
        turn_ke = torch.where(self.gap_ke > noise, turn_ke / self.gap_ke.clamp(min=torch.finfo(torch.float64).tiny), 0)
        of_products_dd = self.kept_dk @ turn_ke @ self.others_de.T
        inner_Nd = outer_Nd @ self.kept_dk @ self.kept_dk.T
        inner_Nd = inner_Nd + self.centred_Nd @ (of_products_dd + of_products_dd.T)
        return (inner_Nd - inner_Nd.mean(dim=0) + outer_Nd.mean(dim=0)).to(slope_Nd)
