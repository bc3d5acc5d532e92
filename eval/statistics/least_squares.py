"""A linear classifier by least squares to the classes of known vectors, with a bias. It has a closed form, so it serves
where many are fitted; the task `linear_probe` fits a better one.

Shape letters: n vectors, d dimensions, c classes.
"""

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad


def class_scores(known_nd: Tensor, known_n: Tensor, new_nd: Tensor, ridge: float = 0.0) -> Tensor:
    """The scores `[n, c]` of new vectors. `ridge`: the penalty on squared weights."""
    fitted_nd, tested_nd = (pad(z_nd.double(), (0, 1), value=1.0) for z_nd in (known_nd, new_nd))
    square_dd = fitted_nd.T @ fitted_nd + ridge * torch.eye(fitted_nd.shape[1], dtype=torch.float64)
    weight_dc = torch.linalg.solve(square_dd, fitted_nd.T @ one_hot(known_n).double())
    scores_nc: Tensor = tested_nd @ weight_dc
    return scores_nc


def accuracy(known_nd: Tensor, known_n: Tensor, new_nd: Tensor, new_n: Tensor, ridge: float = 0.0) -> float:
    """In percent, on new vectors."""
    scores_nc = class_scores(known_nd, known_n, new_nd, ridge)
    return 100 * float((scores_nc.argmax(dim=1) == new_n).double().mean())
