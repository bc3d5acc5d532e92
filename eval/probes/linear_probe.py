"""Linear probes: logistic regression on the vectors, by the protocol of CLIP (Radford et al. 2021, A.3).

The strength of the regularisation is chosen on a validation part of the training items, a fifth of its groups, out of a
logarithmic grid. Then the probe is fitted again, to all training items. The test items choose nothing. CLIP searches 96
values from 1e-6 to 1e6, and uses what the tower of pictures returns before the projection, not normalised.

`linear_probe` is multinomial. `multi_label_probe` fits a regression for each class, where items have several labels.
Its measure is `mAP`, the mean over the classes of the average precision of the tested items; with folds, the mean over
the folds. A class that all training items have, or none, gives every item the same score.

Shape letters: n items, D dimensions, K classes.
"""

import warnings
from abc import abstractmethod
from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from tercet.errors import UserError
from tercet.eval.classification.labels import plain
from tercet.eval.classification.mean_precision import MeanPrecision
from tercet.eval.classification.multi_label import LabelsPath, listed_labels, mean_chance, mean_worst
from tercet.eval.embedding.embed import EmbeddingTable, EvalError
from tercet.eval.null_scores import NullScores
from tercet.eval.probes.labelled import Labelled, place_of_right
from tercet.eval.probes.probe import Probed, ProbeTask
from tercet.eval.probes.splits import Split, dealt
from tercet.eval.statistics.intervals import Statistic
from tercet.eval.task import KINDS

VALIDATION = 5  # one in so many groups of the training items
STEPS = 50  # of L-BFGS in a self-test
GRID = tuple(10.0**power for power in range(-2, 5))


class LogisticTask(ProbeTask):
    """Logistic regression with a strength that is chosen on a validation part."""

    C: tuple[float, ...] = Field(
        GRID, min_length=1, description="inverse strengths of the L2 regularisation, of which the best is chosen"
    )
    max_iter: int = Field(1000, gt=0, description="steps of L-BFGS at most")

    @abstractmethod
    def scores(self, data: Labelled, train_n: Tensor, test_n: Tensor, strength: float) -> Tensor:
        """The logits `[n, K]`."""

    @abstractmethod
    def quality(self, data: Labelled, test_n: Tensor, scores_nK: Tensor) -> float:
        """What the best strength has most of."""

    def lighter(self) -> "LogisticTask":
        """With weak regularisation, by which a probe finds its training items again: so a leak is seen."""
        return self.model_copy(update={"C": (max(GRID),), "folds": 2, "max_iter": min(self.max_iter, STEPS)})

    def probe(self, data: Labelled, split: Split) -> Probed:
        best = self._best(data, split.train_n) if len(self.C) > 1 else self.C[0]
        ends = ", an end of the grid" if len(self.C) > 1 and best in (min(self.C), max(self.C)) else ""
        return Probed(self.scores(data, split.train_n, split.test_n, best), f"C = {best:g}{ends}")

    def _best(self, data: Labelled, train_n: Tensor) -> float:
        """The strength that is best on the validation part. Of equals, the strongest regularisation."""
        samples = [data.samples[place] for place in train_n.tolist()]
        held_n = dealt(samples, data.labels_n[train_n], data.groups_n[train_n], VALIDATION) == 0
        known_n, held_n = train_n[~held_n], train_n[held_n]
        if not len(held_n) or len(torch.unique(data.labels_n[known_n])) < 2:
            raise EvalError(
                f"task `{self.name}` has too few training samples to choose `C`; add some, or give a single value"
            )
        found = {
            strength: self.quality(data, held_n, self.scores(data, known_n, held_n, strength))
            for strength in sorted(self.C)
        }
        return max(found, key=lambda strength: found[strength])  # the first of equals

    def fitted(self, known_nD: Tensor, label_n: Tensor, new_nD: Tensor, strength: float) -> tuple[Tensor, Tensor]:
        """The logits of new vectors, and the label of each column."""
        try:
            from sklearn.exceptions import ConvergenceWarning
            from sklearn.linear_model import LogisticRegression
        except ImportError as error:
            raise UserError("linear probes need scikit-learn; pip install 'tercet[probe]'") from error
        model = LogisticRegression(C=strength, max_iter=self.max_iter)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # at weak regularisation, which the grid may not choose
            warnings.filterwarnings("ignore", "The number of unique classes")  # of the few items of a self-test
            model.fit(known_nD.numpy(), label_n.numpy())
        found = torch.from_numpy(model.decision_function(new_nD.numpy()))
        found = torch.stack([-found / 2, found / 2], dim=1) if found.ndim == 1 else found  # of two classes
        return found, torch.from_numpy(model.classes_)


@KINDS.register("linear_probe")
class LinearProbeTask(LogisticTask):
    """Logistic regression on the vectors, of one class for each item."""

    def scores(self, data: Labelled, train_n: Tensor, test_n: Tensor, strength: float) -> Tensor:
        """The logits; of a class that no training item has, −∞."""
        known_nD, new_nD = data.vectors_nD[train_n], data.vectors_nD[test_n]
        found, columns = self.fitted(known_nD, data.labels_n[train_n], new_nD, strength)
        scores_nK = torch.full((len(test_n), len(data.classes)), -torch.inf, dtype=torch.float64)
        scores_nK[:, columns] = found
        return scores_nK

    def quality(self, data: Labelled, test_n: Tensor, scores_nK: Tensor) -> float:
        return int((place_of_right(scores_nK, data.labels_n[test_n]) == 1).sum())


@KINDS.register("multi_label_probe")
class MultiLabelProbeTask(LogisticTask):
    """Logistic regression on the vectors for each class, where items have several."""

    label: LabelsPath = "labels"

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("mAP",)

    def informed(self, table: EmbeddingTable) -> None:
        return None

    def labelled(self, table: EmbeddingTable, modality: str) -> Labelled:
        """The label of an item that keeps folds alike is its first one."""
        first, path = table.first_rows(modality), self.label or "labels"
        listed = {item: listed_labels(table.samples[item], path) for item in first}
        named = {item: set(map(plain, names)) for item, names in listed.items() if names is not None}
        classes = sorted(set().union(*named.values()))
        if len(classes) < 2:
            raise EvalError(f"task `{self.name}` needs two labels or more in `{path}` of the meta of samples")
        items = sorted(named, key=lambda item: table.samples[item].id)
        right_nK = torch.tensor([[name in named[item] for name in classes] for item in items])
        samples = [table.samples[item] for item in items]
        return Labelled(
            samples,
            table.vectors[modality][torch.tensor([first[item] for item in items])].double(),
            torch.tensor(items),
            right_nK.int().argmax(dim=1),
            torch.tensor([sample.group for sample in samples]),
            classes,
            right_nK,
        )

    def scores(self, data: Labelled, train_n: Tensor, test_n: Tensor, strength: float) -> Tensor:
        assert data.right_nK is not None
        known_nD, new_nD = data.vectors_nD[train_n], data.vectors_nD[test_n]
        scores_nK = torch.zeros(len(test_n), len(data.classes), dtype=torch.float64)
        for column, right_n in enumerate(data.right_nK[train_n].T):
            if 0 < int(right_n.sum()) < len(right_n):
                scores_nK[:, column] = self.fitted(known_nD, right_n.long(), new_nD, strength)[0][:, 1]
        return scores_nK

    def quality(self, data: Labelled, test_n: Tensor, scores_nK: Tensor) -> float:
        assert data.right_nK is not None
        return MeanPrecision(scores_nK, data.right_nK[test_n]).value

    def statistics(
        self, data: Labelled, test_n: Tensor, scores_nK: Tensor, fold_n: Tensor
    ) -> tuple[dict[str, Statistic], dict[str, float]]:
        assert data.right_nK is not None
        right_nK = data.right_nK[test_n]
        by_fold = [right_nK[fold_n == fold] for fold in torch.unique(fold_n)]
        chances = [mean_chance(part.sum(dim=0)[part.any(dim=0)], len(part)) for part in by_fold if part.any()]
        return {"mAP": MeanPrecision(scores_nK, right_nK, fold_n)}, {"mAP": sum(chances) / max(len(chances), 1)}

    def nulls(self, data: Labelled, parts: Sequence[Split]) -> NullScores:
        """From equal vectors all items of a class have the same score."""
        assert data.right_nK is not None
        by_fold = [data.right_nK[part.test_n] for part in parts]
        known = [(part.sum(dim=0)[part.any(dim=0)], len(part)) for part in by_fold if part.any()]
        worst, chance = (
            sum(score(counts, n) for counts, n in known) / max(len(known), 1) for score in (mean_worst, mean_chance)
        )
        return NullScores({"mAP": worst}, shuffled={"mAP": chance})
