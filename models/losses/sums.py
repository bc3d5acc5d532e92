"""A side of a term as the weighted sum of several fields of a sample (GCL, Zhu et al. 2024).

    s_i = Σ_f w_f z_if / ‖Σ_f w_f z_if‖

where z_if is the unit vector of the field f of item i. A field that an item lacks is left out of its sum. So a query is
compared with the picture and the title of a document as one vector.

Shapes: N rows of all ranks, A of them this rank's own, d dimensions.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.models.losses.rows import Rows

Weights = Mapping[str, float]  # by field


def summed(side: Rows, weights: Weights, fields: Mapping[str, Rows]) -> Rows:
    """The rows of a side with the sums of their items in place of their vectors."""
    z_Nd = _sums(side.item_N, weights, {name: (fields[name].item_N, fields[name].z_Nd) for name in weights})
    return replace(side, z_Nd=z_Nd)


def through_sums(side: Rows, weights: Weights, fields: Mapping[str, Rows], slope_Ad: Tensor) -> dict[str, Tensor]:
    """The gradients of this rank's own rows of each field, from those of the sums."""
    leaves = {name: fields[name].z_Ad.detach().requires_grad_() for name in weights}
    parts = {name: (fields[name].item_N[fields[name].own], leaf) for name, leaf in leaves.items()}
    with torch.enable_grad():
        sum_Ad = _sums(side.item_N[side.own], weights, parts)
    slopes = torch.autograd.grad(sum_Ad, [*leaves.values()], slope_Ad, materialize_grads=True)
    return dict(zip(leaves, slopes, strict=True))


def _sums(item_N: Tensor, weights: Weights, parts: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
    """`parts`: the item of each row of a field, ascending, and the rows; each item has one row of a field at most."""
    like = next(iter(parts.values()))[1]
    total_Nd = like.new_zeros(len(item_N), like.shape[1])
    for name, (item_n, z_nd) in parts.items():
        there_N = torch.isin(item_N, item_n)
        row_K = torch.searchsorted(item_n, item_N[there_N])
        total_Nd = total_Nd.index_add(0, torch.nonzero(there_N).flatten(), weights[name] * z_nd[row_K])
    return normalize(total_Nd, dim=1)
