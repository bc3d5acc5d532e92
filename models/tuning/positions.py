"""Positions of a grid of patches, stretched to another grid: pictures of another size than the tower was trained on.

Bicubic and antialiased, as open_clip and timm do it (Touvron et al. 2019 on why sizes differ). What stands before the
grid, as a class token's position, stays as it is.
"""

from math import isqrt

import torch
from torch import Tensor
from torch.nn.functional import interpolate


def stretch(positions: Tensor, places: int) -> Tensor | None:
    """`[…, places, D]` from `[…, P, D]`; nothing where either is no square grid behind the same number of tokens."""
    there, here = isqrt(positions.shape[-2]), isqrt(places)
    before = positions.shape[-2] - there**2
    if before != places - here**2 or before > 1:
        return None
    rows_PD = positions.reshape(-1, positions.shape[-1])
    grid = rows_PD[before:].float().view(1, there, there, -1).permute(0, 3, 1, 2)
    resized = interpolate(grid, size=(here, here), mode="bicubic", antialias=True, align_corners=False)
    stretched = torch.cat([rows_PD[:before].float(), resized.permute(0, 2, 3, 1).reshape(here**2, -1)])
    return stretched.view(*positions.shape[:-2], places, positions.shape[-1])
