"""The mean average precision (mAP) over classes, and its interval by the jackknife.

The average precision of a class is the mean over its right items of the precision at the rank of each. A tie is wrong:
a wrong item that scores as high as a right one is ranked before it.

Without a block of items, each right item keeps its rank less the items of the block that were ranked before it. So one
pass over the scores of a class counts these by block, and none is ranked again.

Shape letters: n items, K classes, F folds, P right candidates, M candidates, B blocks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tercet.eval.ranking.ranking import TIE
from tercet.eval.statistics.intervals import Estimate, Statistic
from tercet.eval.statistics.jackknife import OfBlocks, without_blocks


@dataclass(frozen=True, eq=False)
class MeanPrecision(OfBlocks):
    """`values_Q` are the scores of items for classes, `[n, K]`. Of several folds, the mean of those with a label."""

    right_nK: Tensor
    fold_n: Tensor | None = None

    @cached_property
    def by_class_FK(self) -> Tensor:
        """The average precision of each class; NaN for one that no item of the fold has."""
        folds = [precisions(self.values_Q[rows].T, self.right_nK[rows].T) for rows in self._folds()]
        return torch.stack(folds)

    @property
    def value(self) -> float:
        return float(self.by_class_FK.nanmean(dim=1).nanmean().nan_to_num())

    @property
    def span(self) -> float:
        return 1.0

    def estimate(self, group_Q: Tensor) -> Estimate:
        return without_blocks(self.value, self._without, group_Q, self.span).estimate.within(0.0, 1.0)

    def difference(self, baseline: Statistic, group_Q: Tensor) -> Estimate:
        assert isinstance(baseline, MeanPrecision)
        apart = self.value - baseline.value
        return without_blocks(
            apart, lambda block_n: self._without(block_n) - baseline._without(block_n), group_Q
        ).estimate

    def _without(self, block_n: Tensor) -> Tensor:
        """The value without each block of items."""
        blocks = int(block_n.max()) + 1
        of_folds = [self._fold_without(rows, block_n[rows], blocks) for rows in self._folds()]
        return torch.stack(of_folds).nanmean(dim=0)

    def _fold_without(self, rows: Tensor, block_M: Tensor, blocks: int) -> Tensor:
        classes = zip(self.values_Q[rows].T, self.right_nK[rows].T, strict=True)
        each = [precision_without(scores_M, right_M, block_M, blocks) for scores_M, right_M in classes]
        return torch.stack(each).nanmean(dim=0)

    def _folds(self) -> Iterator[Tensor]:
        """The rows of each."""
        fold_n = torch.zeros(len(self.values_Q)) if self.fold_n is None else self.fold_n
        return (torch.nonzero(fold_n == fold).flatten() for fold in torch.unique(fold_n))


def precisions(scores_QM: Tensor, right_QM: Tensor) -> Tensor:
    """The average precision of each query; NaN for one without a right candidate."""
    return torch.stack([average_precision(one, right) for one, right in zip(scores_QM, right_QM, strict=True)])


def average_precision(scores_M: Tensor, right_M: Tensor) -> Tensor:
    """The mean over the right candidates of the precision at the rank of each."""
    right_P = scores_M[right_M].double().sort(descending=True).values
    wrong = scores_M[~right_M].double().sort().values
    before_P = len(wrong) - torch.searchsorted(wrong, right_P - TIE)
    nth_P = torch.arange(1, len(right_P) + 1, dtype=torch.float64)
    precision: Tensor = (nth_P / (nth_P + before_P)).mean()
    return precision


def precision_without(scores_M: Tensor, right_M: Tensor, block_M: Tensor, blocks: int) -> Tensor:
    """The average precision without each block of candidates; NaN where no right one is left."""
    scores_M, places_P = scores_M.double().contiguous(), right_M.nonzero().flatten()
    right_P, order_P = scores_M[places_P].sort(descending=True)
    block_P = block_M[places_P][order_P]
    # the first right candidate that each candidate would be ranked before; those after it follow
    first_M = len(right_P) - torch.searchsorted((right_P - TIE).flip(0), scores_M, right=True)
    cell_M, cells = block_M * (len(right_P) + 1) + first_M, blocks * (len(right_P) + 1)
    wrong = cell_M.bincount(minlength=cells) - cell_M[places_P].bincount(minlength=cells)
    before_BP = wrong.view(blocks, -1)[:, :-1].cumsum(dim=1)
    within_BP = block_P == torch.arange(blocks)[:, None]
    nth_BP = torch.arange(1, len(right_P) + 1) - within_BP.cumsum(dim=1)
    precision_BP = nth_BP / (nth_BP + before_BP.sum(dim=0) - before_BP).double()
    kept: Tensor = precision_BP.masked_fill(within_BP, 0.0).sum(dim=1) / (~within_BP).sum(dim=1)
    return kept
