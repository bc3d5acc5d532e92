"""A linear classifier on vectors, which says what they know of each class."""

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad


def accuracy(known_nd: Tensor, known_n: Tensor, new_nd: Tensor, new_n: Tensor, ridge: float = 0.0) -> float:
    """In percent, on new vectors: by least squares to the classes of known ones, with a bias. `ridge`: the penalty on
    squared weights."""
    fitted_nd, tested_nd = (pad(z_nd.double(), (0, 1), value=1.0) for z_nd in (known_nd, new_nd))
    square_dd = fitted_nd.T @ fitted_nd + ridge * torch.eye(fitted_nd.shape[1], dtype=torch.float64)
    weight_dc = torch.linalg.solve(square_dd, fitted_nd.T @ one_hot(known_n).double())
    return 100 * float(((tested_nd @ weight_dc).argmax(dim=1) == new_n).double().mean())
