"""Principal components of features that are shared among ranks, without whitening.

ProtoCLIP shortens the features of its external teacher, a sentence encoder, from 1,024 to 64 dimensions before it
clusters them. The axes are eigenvectors of the covariance, which all ranks add up in fp64. The sign of each is chosen
so that its largest component is positive.

Shapes: n rows of this rank, d dimensions, p principal components.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tercet.distributed import World
from tercet.errors import UserError

ROWS = 2**14  # that are in fp64 at a time


@dataclass(frozen=True)
class Projection:
    """Maps features to their principal components, by falling variance."""

    mean_d: Tensor
    axis_dp: Tensor

    def __call__(self, feature_nd: Tensor) -> Tensor:
        return (feature_nd - self.mean_d) @ self.axis_dp


def principal_components(feature_nd: Tensor, dims: int, world: World) -> Projection:
    """The axes of the largest variance over the rows of all ranks. A collective."""
    width = feature_nd.shape[1]
    if not 0 < dims <= width:
        raise UserError(f"{dims} principal components of {width} dimensions: give a number from 1 to {width}")
    count = world.sum(torch.tensor(float(len(feature_nd)), dtype=torch.float64, device=feature_nd.device))
    total_d = feature_nd.new_zeros(width, dtype=torch.float64)
    for start in range(0, len(feature_nd), ROWS):
        total_d += feature_nd[start : start + ROWS].double().sum(dim=0)
    mean_d = world.sum(total_d) / count.clamp(min=1)
    square_dd = torch.zeros(width, width, dtype=torch.float64, device=feature_nd.device)
    for start in range(0, len(feature_nd), ROWS):
        centred_nd = feature_nd[start : start + ROWS].double() - mean_d
        square_dd += centred_nd.T @ centred_nd
    axis_dp = torch.linalg.eigh(world.sum(square_dd)).eigenvectors.flip(dims=[1])[:, :dims]
    largest_p = axis_dp.abs().argmax(dim=0, keepdim=True)
    axis_dp = axis_dp * axis_dp.gather(0, largest_p).sign()
    return Projection(mean_d.to(feature_nd), axis_dp.to(feature_nd))
