"""Shares whose weights depend on the answers of a model: macro F1, and the worst of several parts of the items.

F1 of a class is the share of right answers among the items that have the class and, once more, those that are assigned
to it: 2 TP / (items + answers). Its mean over the classes is therefore a share, in which an item weighs one over this
sum for its class, and one over that of the class that it is assigned to.

The worst part is found from the same noisy shares that are compared, so that the lowest share is below that of the
part that is truly worst, on average. The interval allows for that: it goes from the lowest end of the intervals of all
P parts to the lowest of their upper ends at a level of 1 - 0.025 / P (Bonferroni), so that it holds the truth whichever
part is the worst. The difference between two models is that of their own worst parts, which it takes for known. Its
interval is too short if one model is about equally bad on many parts and the other is bad on few: with five equal parts
for one model, and one much worse part for the other, it holds the true difference in 90 of 100 cases.

Shape letters: Q queries, K classes, P parts.
"""

from dataclasses import dataclass, field
from statistics import NormalDist

import torch
from torch import Tensor

from tercet.eval.statistics.intervals import Estimate, Share, Statistic


def macro_f1(label_Q: Tensor, answer_Q: Tensor) -> Share:
    """The mean of F1 over the classes that a query has. An answer of -1 is none of the classes."""
    classes = int(torch.cat([label_Q, answer_Q]).max()) + 1
    items_K, answers_K = label_Q.bincount(minlength=classes), answer_Q[answer_Q >= 0].bincount(minlength=classes)
    weight_K = torch.where(items_K > 0, 1 / (items_K + answers_K).double(), 0.0)
    answered_Q = torch.where(answer_Q >= 0, weight_K[answer_Q], 0.0)
    return Share(label_Q == answer_Q, weight_K[label_Q] + answered_Q)


@dataclass(frozen=True, eq=False)
class WorstShare(Share):
    """The lowest share of all parts: weights are one in this part and zero elsewhere."""

    part_Q: Tensor = field(kw_only=True)

    def estimate(self, group_Q: Tensor) -> Estimate:
        masks = [self.part_Q == part for part in torch.unique(self.part_Q)]
        z = NormalDist().inv_cdf(1 - 0.025 / len(masks))
        shares = [(Share(self.values_Q[kept_Q]), group_Q[kept_Q]) for kept_Q in masks]
        low = min(share.estimate(own).low for share, own in shares)
        return Estimate(self.value, low, min(share.at(own, z).high for share, own in shares))

    def difference(self, baseline: Statistic, group_Q: Tensor) -> Estimate:
        assert isinstance(baseline, WorstShare)
        kept_Q = self._compared_Q(baseline)
        ours, theirs = (Share(one.values_Q[kept_Q], one._weight_Q[kept_Q]) for one in (self, baseline))
        return ours.difference(theirs, group_Q[kept_Q])

    def degrees(self, baseline: Statistic, group_Q: Tensor) -> int:
        return super().degrees(baseline, group_Q[self._compared_Q(baseline)])

    def _compared_Q(self, baseline: Statistic) -> Tensor:
        """Which queries are in either worst part."""
        assert isinstance(baseline, WorstShare)
        return (self._weight_Q + baseline._weight_Q) > 0

    @property
    def part(self) -> int:
        """Which of the parts is the worst."""
        return int(self.part_Q[self._weight_Q.argmax()])

    @property
    def _weight_Q(self) -> Tensor:
        assert self.weights_Q is not None
        return self.weights_Q


def worst_share(hits_Q: Tensor, part_Q: Tensor) -> WorstShare:
    """Of equal shares, that of the first part."""
    share_P = part_Q.bincount(hits_Q.double()) / part_Q.bincount()
    return WorstShare(hits_Q, (part_Q == share_P.argmin()).double(), part_Q=part_Q)
