"""Calibration of zero-shot classification: is a model right as often as it says?

The probabilities of the classes are the softmax of their logits: the cosines of an item with the vectors of the
classes, times the inverse temperature that the model learned for this modality and text, or times `scale`. A model of
the sigmoid loss has no other: its bias is the same for all classes, so the softmax does not depend on it.

- `calibration error`: items are put into bins by the probability of their first class; the error is the mean distance
  between this probability and the share that is right in the bin (Guo et al., 2017). It is not comparable between
  numbers of bins. As everywhere, a tie is wrong.
- `Brier score`: the squared distance between the probabilities and the truth, summed over the classes (Brier, 1950);
  from 0 to 2.
- `log loss`: minus the logarithm of the probability of the true class.

The score of chance is that of a model that gives all classes the same probability.

Shape letters: n items, K classes, B bins.
"""

from math import log

import torch
from pydantic import Field
from torch import Tensor

from tercet.eval.classification.classified import Classified, classified
from tercet.eval.classification.prompted_task import PromptedTask
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable, EvalError, TextEmbedder
from tercet.eval.measure import Measure
from tercet.eval.null_scores import NullScores
from tercet.eval.statistics.jackknife import Jackknifed
from tercet.eval.task import KINDS


@KINDS.register("calibration")
class CalibrationTask(PromptedTask):
    """Whether a model is right as often as its probabilities of the classes say."""

    scale: float | None = Field(
        None,
        gt=0,
        description="what cosines are multiplied by before the softmax; null: the inverse temperature that the model "
        "learned",
    )
    bins: int = Field(15, gt=0, description="equally wide bins of the calibration error")

    @property
    def metrics(self) -> tuple[str, ...]:
        return "calibration error", "Brier score", "log loss"

    def measure(self, table: EmbeddingTable, embed_text: TextEmbedder, config: EvalConfig) -> list[Measure]:
        return [
            _measured(found, self._scale(table, found.modality), self) for found in classified(table, embed_text, self)
        ]

    def _scale(self, table: EmbeddingTable, modality: str) -> float:
        found = self.scale or table.scales.get(modality)
        if found is None:
            raise EvalError(
                f"task `{self.name}`: the model has no temperature of {modality} and text; set `scale`, such as 100"
            )
        return found


def _measured(found: Classified, scale: float, task: CalibrationTask) -> Measure:
    label_n, classes = found.label_n, len(task.classes)
    log_nK = (scale * found.scores().double()).log_softmax(dim=1)
    probability_nK = log_nK.exp()
    truth_nK = torch.nn.functional.one_hot(label_n, classes)
    brier_n = (probability_nK - truth_nK).square().sum(dim=1)
    loss_n = -log_nK.gather(1, label_n[:, None]).flatten()
    said_n2 = torch.stack([probability_nK.max(dim=1).values, (found.place_n == 1).double()], dim=1)

    share_K = label_n.bincount(minlength=classes).double() / len(label_n)
    alike = {"Brier score": 1 - 1 / classes, "log loss": log(classes)}
    shuffled = {
        "Brier score": 1 - float(share_K.square().sum()),
        "log loss": float(torch.special.entr(share_K).sum()),
    }

    def error(rows_n2: Tensor) -> float:
        return calibration_error(rows_n2[:, 0], rows_n2[:, 1], task.bins)

    return Measure(
        found.subject,
        {
            "calibration error": Jackknifed(said_n2, error, 0.0, 1.0),
            "Brier score": Jackknifed(brier_n, _mean, 0.0, 2.0),
            "log loss": Jackknifed(loss_n, _mean, 0.0),
        },
        found.items_n,
        found.groups_n,
        alike,
        {**found.notes, "logits": f"cosine × {scale:.4g}", "bins": task.bins},
        nulls=NullScores({"calibration error": abs(1 / classes - (classes == 1)), **alike}, {}, shuffled),
    )


def calibration_error(confidence_n: Tensor, right_n: Tensor, bins: int) -> float:
    """Σ_b |Σ_{i in b} (right_i − confidence_i)| / n, where bin b holds confidences from b / B to below (b + 1) / B."""
    bin_n = (confidence_n * bins).long().clamp(max=bins - 1)
    apart_B = torch.zeros(bins, dtype=torch.float64).index_add_(0, bin_n, right_n - confidence_n)
    return float(apart_B.abs().sum() / len(confidence_n))


def _mean(values_n: Tensor) -> float:
    return float(values_n.mean())
