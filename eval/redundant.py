"""Which tasks of a suite the others make redundant, as MMTEB chooses its subsets (Enevoldsen et al. 2025).

A task that can be predicted from the others says little new about a model. The most predictable task is removed, again
and again, until none is predictable enough. A task is predicted for each model by ridge regression of its scores on
those of the remaining tasks, fitted to the other models; how predictable it is, is Spearman's correlation of the
predicted scores with the true ones. Scores are standardised first.

Shapes: M models, T tasks.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tercet.errors import UserError
from tercet.eval.statistics.jackknife import correlation

RIDGE = 0.1  # of the number of models
LEAST = 5  # models


def redundant_tasks(scores_MT: Tensor, names: Sequence[str], above: float = 0.8) -> list[tuple[str, float]]:
    """The tasks to leave out, in this order, each with the correlation at which the others predict it."""
    if scores_MT.shape[0] < LEAST:
        raise UserError(f"{scores_MT.shape[0]} models cannot say which tasks are redundant; take {LEAST} or more")
    remaining, removed = list(range(len(names))), []
    while len(remaining) > 1:
        found = {task: predictability(scores_MT[:, remaining], place) for place, task in enumerate(remaining)}
        worst = max(remaining, key=lambda task: found[task])
        if found[worst] <= above:
            break
        remaining.remove(worst)
        removed.append((names[worst], found[worst]))
    return removed


def predictability(scores_MT: Tensor, task: int) -> float:
    """How well the scores of all models in a task follow from those in the others."""
    scores_MT = scores_MT.double()
    standard_MT = (scores_MT - scores_MT.mean(dim=0)) / scores_MT.std(dim=0).clamp(min=1e-12)
    target_M, others_MT = standard_MT[:, task], torch.cat([standard_MT[:, :task], standard_MT[:, task + 1 :]], dim=1)
    models, ridge = len(target_M), RIDGE * len(target_M)
    predicted = torch.zeros_like(target_M)
    for model in range(models):
        known = torch.arange(models) != model
        fitted_MT, mean = others_MT[known], target_M[known].mean()
        square_TT = fitted_MT.T @ fitted_MT + ridge * torch.eye(fitted_MT.shape[1], dtype=torch.float64)
        weight_T = torch.linalg.solve(square_TT, fitted_MT.T @ (target_M[known] - mean))
        predicted[model] = others_MT[model] @ weight_T + mean
    return correlation(predicted, target_M, ranks=True)
