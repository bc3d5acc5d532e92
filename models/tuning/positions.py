"""Interpolates position embeddings to another grid of patches, for images of another size than in training.

Bicubic and antialiased, as in open_clip and timm (Touvron et al. 2019 explain why sizes differ). The position of a
class token stays as it is.
"""

from math import isqrt

import torch
from torch import Tensor
from torch.nn.functional import interpolate


def resized(positions: Tensor, places: int) -> Tensor:
    """The positions of a tower for a picture of so many patches or cells. Those of its own size stay as they are."""
    if positions.shape[-2] == places:
        return positions
    found = stretch(positions, places)
    if found is None:
        raise ValueError(f"its {positions.shape[-2]} positions cannot be interpolated to {places}")
    return found


def stretch(positions: Tensor, places: int) -> Tensor | None:
    """`[…, places, D]` from `[…, P, D]`. None unless both are square grids after the same number of tokens."""
    there, here = isqrt(positions.shape[-2]), isqrt(places)
    before = positions.shape[-2] - there**2
    if before != places - here**2 or before > 1:
        return None
    rows_PD = positions.reshape(-1, positions.shape[-1])
    grid = rows_PD[before:].float().view(1, there, there, -1).permute(0, 3, 1, 2)
    resized = interpolate(grid, size=(here, here), mode="bicubic", antialias=True, align_corners=False)
    stretched = torch.cat([rows_PD[:before].float(), resized.permute(0, 2, 3, 1).reshape(here**2, -1)])
    return stretched.view(*positions.shape[:-2], places, positions.shape[-1])
