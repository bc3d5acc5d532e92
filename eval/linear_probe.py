"""Linear probe: multinomial logistic regression on the vectors, the protocol of CLIP (Radford et al. 2021, A.3).

The strength of the regularisation is chosen on a validation part of the training items, a fifth of its groups, out of a
logarithmic grid. Then the probe is fitted again, to all training items. The test items choose nothing. CLIP searches a
finer grid, and uses what the tower of pictures returns before the projection.
"""

import warnings

import torch
from pydantic import Field
from torch import Tensor

from tercet.errors import UserError
from tercet.eval.embed import EvalError
from tercet.eval.labelled import Labelled, place_of_right
from tercet.eval.probe import Probed, ProbeTask
from tercet.eval.splits import Split, dealt
from tercet.eval.task import KINDS

VALIDATION = 5  # one in so many groups of the training items
GRID = tuple(10.0**power for power in range(-2, 5))


@KINDS.register("linear_probe")
class LinearProbeTask(ProbeTask):
    """Logistic regression on the vectors."""

    C: tuple[float, ...] = Field(
        GRID, min_length=1, description="inverse strengths of the L2 regularisation, of which the best is chosen"
    )
    max_iter: int = Field(1000, gt=0, description="steps of L-BFGS at most")

    def probe(self, data: Labelled, split: Split) -> Probed:
        best = self._best(data, split.train_n) if len(self.C) > 1 else self.C[0]
        ends = ", an end of the grid" if len(self.C) > 1 and best in (min(self.C), max(self.C)) else ""
        return Probed(self._scores(data, split.train_n, split.test_n, best), f"C = {best:g}{ends}")

    def _best(self, data: Labelled, train_n: Tensor) -> float:
        """The strength with the highest accuracy on the validation part. Of equals, the strongest regularisation."""
        samples = [data.samples[place] for place in train_n.tolist()]
        held_n = dealt(samples, data.labels_n[train_n], data.groups_n[train_n], VALIDATION) == 0
        known_n, held_n = train_n[~held_n], train_n[held_n]
        if not len(held_n) or len(torch.unique(data.labels_n[known_n])) < 2:
            raise EvalError(
                f"task `{self.name}` has too few training samples to choose `C`; add some, or give a single value"
            )
        right = {}
        for strength in sorted(self.C):
            place_n = place_of_right(self._scores(data, known_n, held_n, strength), data.labels_n[held_n])
            right[strength] = int((place_n == 1).sum())
        return max(right, key=lambda strength: right[strength])  # the first of equals

    def _scores(self, data: Labelled, train_n: Tensor, test_n: Tensor, strength: float) -> Tensor:
        """The logits `[n, K]`; of a class that no training item has, −∞."""
        try:
            from sklearn.exceptions import ConvergenceWarning
            from sklearn.linear_model import LogisticRegression
        except ImportError as error:
            raise UserError("linear probes need scikit-learn; pip install 'tercet[probe]'") from error
        model = LogisticRegression(C=strength, max_iter=self.max_iter)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # at weak regularisation, which the grid may not choose
            model.fit(data.vectors_nD[train_n].numpy(), data.labels_n[train_n].numpy())
        found = torch.from_numpy(model.decision_function(data.vectors_nD[test_n].numpy()))
        found = torch.stack([-found / 2, found / 2], dim=1) if found.ndim == 1 else found  # of two classes
        scores_nK = torch.full((len(test_n), len(data.classes)), -torch.inf, dtype=torch.float64)
        scores_nK[:, torch.from_numpy(model.classes_)] = found
        return scores_nK
