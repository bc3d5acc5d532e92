"""Measures of unit vectors in a space, of a field x and of two fields x and y of the same items.

Of a field:

- uniformity: log mean exp(−2‖x − x'‖²) over pairs of its items (Wang and Isola 2020)
- effective_rank: exp of the entropy of the singular values, divided by their sum (Roy and Vetterli 2007), which ranks
  models without labels (RankMe, Garrido et al. 2023)

Of two fields:

- alignment: mean ‖x − y‖² over the positive pairs (Wang and Isola 2020)
- modality_gap: ‖mean x − mean y‖ (Liang et al. 2022)
- mir: matrix mutual information ratio, (H(K) + H(L) − H(K∘L)) / min(H(K), H(L)), where K and L are the cosines within
  x and within y, ∘ multiplies entry by entry, and H is the entropy of the eigenvalues, divided by their sum (Song et
  al. 2024, there for the samples and the classes of a classifier)

Training logs them for its batches, and the task `geometry` measures them on held-out data.

Shapes: n items, d dimensions.
"""

import torch
from torch import Tensor


def alignment(x_nd: Tensor, y_nd: Tensor) -> Tensor:
    return (x_nd - y_nd).square().sum(dim=1).mean()


def modality_gap(x_nd: Tensor, y_nd: Tensor) -> Tensor:
    return (x_nd.mean(dim=0) - y_nd.mean(dim=0)).square().sum().sqrt()


def uniformity(x_nd: Tensor) -> Tensor:
    return torch.pdist(x_nd).square().mul(-2).exp().mean().log()


def effective_rank(x_nd: Tensor) -> Tensor:
    return entropy(_squared_singular_values(x_nd).sqrt()).exp()


def matrix_mutual_information_ratio(x_nd: Tensor, y_nd: Tensor) -> Tensor:
    """NaN if all vectors of a field are equal, because its entropy is then 0."""
    joint_n = torch.linalg.eigvalsh((x_nd @ x_nd.T) * (y_nd @ y_nd.T)).clamp(min=0)
    x, y, joint = entropy(_squared_singular_values(x_nd)), entropy(_squared_singular_values(y_nd)), entropy(joint_n)
    smaller = torch.minimum(x, y)
    return torch.where(smaller > 1e-9, (x + y - joint) / smaller, torch.nan)


def entropy(weights: Tensor) -> Tensor:
    """The entropy of the weights, divided by their sum. NaN without any."""
    found = torch.special.entr(weights / weights.sum())
    return torch.sum(found) if len(weights) else weights.new_tensor(torch.nan)


def _squared_singular_values(x_nd: Tensor) -> Tensor:
    """Those that may differ from zero, which are also the eigenvalues of the matrix of cosines."""
    short = x_nd if len(x_nd) < x_nd.shape[1] else x_nd.T
    squared: Tensor = torch.linalg.eigvalsh(short @ short.T).clamp(min=0)
    return squared
