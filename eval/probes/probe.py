"""What all probes share: they learn classes from the vectors of one part of the items, and are tested on the rest.

The vectors have length 1: those of the joint space, or what the towers return before the projection. The accuracy of
several folds is the mean over the folds, so that each fold counts alike. A class that no training sample has is never
found. A tie is wrong.

Shape letters: n items, D dimensions, K classes.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from tercet.eval.classification.classified import largest_share
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable, EvalError, TextEmbedder
from tercet.eval.measure import Measure
from tercet.eval.null_scores import NullScores, best_answer
from tercet.eval.probes.labelled import Labelled, labelled, place_of_right
from tercet.eval.probes.splits import Split, SplitTask, joined, splits
from tercet.eval.statistics.intervals import Share, Statistic, class_mean


class Probed(NamedTuple):
    """The scores `[n, K]` of tested items, and what the probe chose for itself."""

    scores_nK: Tensor
    chosen: str = ""


class ProbeTask(SplitTask):
    """A classifier that learns from vectors."""

    vectors: Literal["joint", "tower"] = Field(
        "joint", description="those of the joint space, or what the towers return before the projection"
    )

    @property
    def metrics(self) -> tuple[str, ...]:
        return "acc1", "mean_per_class_recall"

    def measure(self, table: EmbeddingTable, embed_text: TextEmbedder, config: EvalConfig) -> list[Measure]:
        towers = self.vectors == "tower"
        tested = self._again(table, None, towers) if towers else table
        known = self._again(table, self.learn_from, towers) if self.learn_from else None
        measures = []
        for modality in self.used_modalities(tested):
            data = self.labelled(tested, modality)
            if known is None:
                measures.append(self._of(data, list(splits(data, self)), modality))
            elif modality in known.vectors:
                both, split = joined(self.labelled(known, modality), data)
                measures.append(self._of(both, [split], modality))
        return measures

    def _again(self, table: EmbeddingTable, source: str | None, towers: bool) -> EmbeddingTable:
        if table.again is None:
            raise EvalError(
                f"task `{self.name}` needs the model itself, for `vectors` or `learn_from`; evaluate a model"
            )
        return table.again(source, towers)

    def labelled(self, table: EmbeddingTable, modality: str) -> Labelled:
        return labelled(table, modality, self)

    @abstractmethod
    def probe(self, data: Labelled, split: Split) -> Probed:
        """Learns from the training items of a split, and scores those to test."""

    def _of(self, data: Labelled, parts: Sequence[Split], modality: str) -> Measure:
        probed = [self.probe(data, part) for part in parts]
        test_n, fold_n = _tested(parts)
        statistics, chance = self.statistics(data, test_n, torch.cat([one.scores_nK for one in probed]), fold_n)
        notes: dict[str, object] = {
            "classes": len(data.classes),
            "folds": len(parts),
            "learned from": sum(len(part.train_n) for part in parts) // len(parts),
            "vectors": "joint space" if self.vectors == "joint" else "output of the tower",
        }
        if data.right_nK is None:
            notes["majority"] = largest_share(data.labels_n[test_n])
        if left_out := sum(part.left_out for part in parts):
            notes["training samples left out for their group"] = left_out
        if chosen := [one.chosen for one in probed if one.chosen]:
            notes["chosen"] = chosen
        return Measure(
            f"{self.what} from {modality}", statistics, data.items_n[test_n], data.groups_n[test_n], chance, notes,
            nulls=self.nulls(data, parts),
        )  # fmt: skip

    def statistics(
        self, data: Labelled, test_n: Tensor, scores_nK: Tensor, fold_n: Tensor
    ) -> tuple[dict[str, Statistic], dict[str, float]]:
        """The statistics of the tested items, and what chance scores in each."""
        label_n, classes = data.labels_n[test_n], len(data.classes)
        found = _accuracies(place_of_right(scores_nK, label_n), label_n, fold_n, classes)
        guess = {"acc1": 1 / classes, "mean_per_class_recall": 1 / classes, "acc5": 5 / classes}
        return {**found}, {metric: guess[metric] for metric in found}

    def nulls(self, data: Labelled, parts: Sequence[Split]) -> NullScores:
        """From equal vectors a probe learns how frequent the classes are, and finds the most frequent one, unless two
        are. From vectors that say nothing it learns no more than one answer for all items of a fold, and from those
        that say the class all classes that it has examples of."""
        test_n, fold_n = _tested(parts)
        label_n, classes = data.labels_n[test_n], len(data.classes)
        known_FK = torch.stack([data.labels_n[part.train_n].bincount(minlength=classes) for part in parts])
        known_nK, own_n1 = known_FK[fold_n], known_FK[fold_n].gather(1, label_n[:, None])
        found = _accuracies((known_nK >= own_n1).sum(dim=1), label_n, fold_n, classes)
        right = _accuracies(torch.where(own_n1[:, 0] > 0, 1, classes), label_n, fold_n, classes)
        return NullScores(
            {metric: share.value for metric, share in found.items()},
            shuffled={
                metric: best_answer(label_n, fold_n, share.weights_Q, 5 if metric == "acc5" else 1)
                for metric, share in found.items()
            },
            informed={metric: share.value for metric, share in right.items()},
        )


def _tested(parts: Sequence[Split]) -> tuple[Tensor, Tensor]:
    """The tested items of all splits, and the number of the split that each is of."""
    sizes = torch.tensor([len(part.test_n) for part in parts])
    return torch.cat([part.test_n for part in parts]), torch.arange(len(parts)).repeat_interleave(sizes)


def _accuracies(place_n: Tensor, label_n: Tensor, fold_n: Tensor, classes: int) -> dict[str, Share]:
    """Of the ranks of the right classes; folds count alike."""
    size_n = fold_n.bincount()[fold_n]
    weight_n = None if len(torch.unique(size_n)) == 1 else 1 / size_n.double()
    found = {"acc1": Share(place_n == 1, weight_n), "mean_per_class_recall": class_mean(place_n == 1, label_n)}
    return {**found, "acc5": Share(place_n <= 5, weight_n)} if classes > 5 else found
