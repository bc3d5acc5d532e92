"""Classification by the nearest training items, with weighted votes (Wu et al. 2018; the usual k and temperature are
those of DINO, Caron et al. 2021).

Each of the k nearest training items votes for its class with the weight exp(cosine / temperature). Items as near as the
k-th vote, too, so that the order of the data does not matter. Cosines are computed for a tile of test items at a time.

Shape letters: Q items of a tile, N training items, K classes, D dimensions.
"""

import torch
from pydantic import Field
from torch import Tensor

from tercet.eval.probes.labelled import Labelled
from tercet.eval.probes.probe import Probed, ProbeTask
from tercet.eval.probes.splits import Split
from tercet.eval.products import tiles
from tercet.eval.ranking.ranking import TIE
from tercet.eval.task import KINDS

USUAL = 0.07  # temperature


@KINDS.register("knn")
class NearestNeighboursTask(ProbeTask):
    """Weighted votes of the nearest training items."""

    neighbours: int = Field(20, gt=0, description="k, how many training items vote")
    temperature: float = Field(USUAL, gt=0, description="of the votes: the lower, the more the nearest items count")

    def lighter(self) -> "NearestNeighboursTask":
        """With votes that tell near items from far ones."""
        return self.model_copy(update={"temperature": min(self.temperature, USUAL)})

    def probe(self, data: Labelled, split: Split) -> Probed:
        found = tiles(data.vectors_nD[split.test_n], data.vectors_nD[split.train_n], data.world)
        label_N, classes = data.labels_n[split.train_n], len(data.classes)
        votes = [self._votes(cosine_QN, label_N.to(cosine_QN.device), classes).cpu() for _, cosine_QN in found]
        return Probed(torch.cat(votes))

    def _votes(self, cosine_QN: Tensor, label_N: Tensor, classes: int) -> Tensor:
        """The share of the votes for each class."""
        least_Q1 = cosine_QN.topk(min(self.neighbours, cosine_QN.shape[1]), dim=1).values[:, -1:]
        voting_QN = cosine_QN.masked_fill(cosine_QN < least_Q1 - TIE, -torch.inf)
        weight_QN = (voting_QN / self.temperature).softmax(dim=1)
        votes_QK = weight_QN.new_zeros(len(weight_QN), classes)
        return votes_QK.scatter_add_(1, label_N.expand_as(weight_QN), weight_QN)
