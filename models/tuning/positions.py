"""Changes the number of position embeddings, for images of another size or texts of another length than in training.

Images: bicubic and antialiased, as in open_clip and timm (Touvron et al. 2019 explain why sizes differ). The position
of a class token stays as it is. Texts: as in Long-CLIP (Zhang et al. 2024), which keeps the first positions, because
those are well trained, and stretches the others by linear interpolation.
"""

import re
from math import isqrt

import torch
from torch import Tensor
from torch.nn.functional import interpolate

TABLE = re.compile(r"pos.*emb|\.positions$")  # the names of position embeddings among the weights of a tower


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


def lengthened(positions_PD: Tensor, places: int, kept: int) -> Tensor | None:
    """The positions `[places, D]` of a longer or shorter text.

    A shorter text has the first ones. For a longer one, the first `kept` stay, and the other P - kept are stretched by
    (places - kept) / (P - kept); the last ones continue the line through the last two. 77 positions of which 20 stay
    become 248 if the others are stretched by 4. None if fewer than two are left to stretch.
    """
    if places <= len(positions_PD):
        return positions_PD[:places]
    rest_RD = positions_PD[kept:]
    if len(rest_RD) < 2:
        return None
    place_n = torch.arange(places - kept, dtype=torch.float64) * len(rest_RD) / (places - kept)
    low_n = place_n.long().clamp(max=len(rest_RD) - 2).to(rest_RD.device)
    share_n1 = (place_n.to(rest_RD.device) - low_n).to(rest_RD.dtype)[:, None]
    stretched_nD = rest_RD[low_n].lerp(rest_RD[low_n + 1], share_n1)
    return torch.cat([positions_PD[:kept], stretched_nD])
