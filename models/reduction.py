"""Smaller pictures for the same tower, so that scoring costs less: larger patches, or a smaller size.

Larger patches follow FlexiViT (Beyer et al. 2023). There, a patch embedding w for patches of P pixels becomes one for
larger patches of Q pixels by the pseudo-inverse of the matrix B that resizes a patch from P to Q: w' = (Bᵀ)⁺ w. So
⟨Bx, w'⟩ = ⟨x, w⟩ for every patch x. Because ⟨x', (Bᵀ)⁺ w⟩ = ⟨B⁺ x', w⟩, one may as well make each large patch x' of the
picture smaller by B⁺ and keep w. That is what happens here: the tower gets a smaller picture, its weights stay what
they are, and their gradient is that of FlexiViT. Position embeddings are interpolated to the smaller grid, as for any
other size: bicubic, where FlexiViT is bilinear. FlexiViT draws patch sizes at random; here the recipe gives one.

Shape letters: n rows, H height, W width, h and w those of the smaller picture; P side of a patch, Q of a larger patch.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from tercet.data_pipelines.sample import ImageIntake


@dataclass(frozen=True)
class Reduction:
    """A linear map of pictures of one size to smaller ones: one matrix for their rows, one for their columns."""

    rows_hH: Tensor
    columns_wW: Tensor

    @property
    def before(self) -> tuple[int, int]:
        return self.rows_hH.shape[1], self.columns_wW.shape[1]

    @property
    def after(self) -> tuple[int, int]:
        return self.rows_hH.shape[0], self.columns_wW.shape[0]

    def fits(self, values: Tensor) -> bool:
        """Whether these are pictures of the size that the map makes smaller."""
        return tuple(values.shape[-2:]) == self.before

    def intake(self, intake: ImageIntake) -> ImageIntake:
        return replace(intake, size=self.after)

    def to(self, device: torch.device) -> "Reduction":
        return Reduction(self.rows_hH.to(device), self.columns_wW.to(device))

    def __call__(self, values_nCHW: Tensor) -> Tensor:
        """Bytes to smaller pictures in fp32, which may leave the range of bytes a little."""
        with torch.autocast(values_nCHW.device.type, enabled=False):
            return self.rows_hH @ values_nCHW.float() @ self.columns_wW.T


def larger_patches(size: tuple[int, int], own: int, larger: int) -> Reduction:
    """Makes patches of `larger` pixels patches of `own` pixels. `larger` must divide the picture."""
    narrow_PQ = torch.linalg.pinv(resize_matrix(own, larger).double()).float()
    return Reduction(*(torch.kron(torch.eye(side // larger), narrow_PQ) for side in size))


def smaller_size(size: tuple[int, int], side: int) -> Reduction:
    """Resizes pictures so that their height is `side`."""
    height, width = size
    return Reduction(resize_matrix(height, side), resize_matrix(width, round(width * side / height)))


def resize_matrix(before: int, after: int) -> Tensor:
    """The matrix `[after, before]` that resizes one axis, bilinear and antialiased."""
    identity = torch.eye(before)[None, None]
    return interpolate(identity, size=(after, before), mode="bilinear", antialias=True, align_corners=False)[0, 0]
