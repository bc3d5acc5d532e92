"""CLIP-Refine: a trained model is tuned for a few steps, so that pictures and captions are no longer apart.

Each run first trains the strong baseline, then tunes it on the same data. The modality gap is the distance between the
means of the vectors of pictures and of captions, on held-out scenes. Without tuning, one may also subtract from all
vectors the mean of their modality, here that of the held-out scenes, which is the best that a shift can do.

The claim `clip_refine_retrieval` is about the same runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.api.data import looked_at
from tercet.api.evaluate import embedded
from tercet.benchmarks.claims.experiment import built_in
from tercet.benchmarks.claims.experiment.claim import Claim
from tercet.benchmarks.claims.experiment.strong import RECALL, SECONDS, WORLD, Strong
from tercet.benchmarks.claims.experiment.synthetic import recall
from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.eval.config import EvalConfig
from tercet.eval.space import modality_gap

GAP, CANDIDATES = "modality gap", 1_000
BETWEEN = {"between": ["image", "text"]}


@dataclass(frozen=True)
class Refinement:
    """`steps`: of the baseline. `share`: steps of tuning, of these; 0: none. `lr`: of tuning. `temperature`: of the
    teacher, about the one that the baseline has learned.

    `rafa`: the weight of random alignment. `teacher`: the share of the target that the model before has. If both are 0,
    tuning is contrastive. `shifted`: whether vectors are shifted to a mean of zero.
    """

    rafa: float = 0.0
    teacher: float = 0.0
    shifted: bool = False
    steps: int = 300
    share: float = 0.2
    lr: float = 2e-4
    temperature: float = 0.07

    def run(self, seed: int) -> dict[str, float]:
        data = built_in.generated(WorldConfig.model_validate(WORLD))
        with TemporaryDirectory() as folder:
            start, end = Path(folder) / "before", Path(folder) / "after"
            Strong(steps=self.steps).train(start, data, seed)
            seconds = 0.0
            if self.share:
                tuning = Strong(self._method(start), steps=max(round(self.share * self.steps), 1), lr=self.lr)
                seconds = tuning.train(end, data, seed, init=start)
            return {**self._measured(end if self.share else start, data), SECONDS: seconds}

    def _method(self, start: Path) -> Mapping[str, Any]:
        if not (self.rafa or self.teacher):
            return {"terms": [BETWEEN | {"objective": {"name": "infonce", "smoothing": 0.1}}]}
        soft = {"name": "soft", "weight_soft": self.teacher, "temperature": self.temperature}
        terms: list[dict[str, Any]] = [
            {"name": "hycd", **BETWEEN, "objective": soft, "references": {"teacher": "initial"}},
            {"name": "rafa", **BETWEEN, "objective": "random_alignment", "weight": self.rafa},
        ]
        memories = {"initial": {"kind": "teacher", "model": str(start)}}
        return {"memories": memories, "terms": terms if self.rafa else terms[:1]}

    def _measured(self, run: Path, data: Path) -> dict[str, float]:
        config = EvalConfig(tasks=["retrieval"], candidates=CANDIDATES, captions=1)
        with embedded(run, looked_at(str(run), {"source": str(data / "val")}), config) as (_, tables):
            (table,) = tables.values()
            assert torch.equal(table.items["image"], table.items["text"])  # one picture and one caption of each scene
            image_nd, text_nd = (table.vectors[name][:CANDIDATES].double() for name in ("image", "text"))
        if self.shifted:
            image_nd, text_nd = shifted(image_nd), shifted(text_nd)
        return {
            GAP: float(modality_gap(image_nd, text_nd)),
            RECALL: recall(image_nd, text_nd),
            "text→image R@1": recall(text_nd, image_nd),
        }


def shifted(z_nd: Tensor) -> Tensor:
    return normalize(z_nd - z_nd.mean(dim=0), dim=1)


CLAIM = Claim(
    says="Tuned by CLIP-Refine, a model has a smaller modality gap than before.",
    source="Yamaguchi et al. 2025",
    measure=GAP,
    arms={
        "CLIP-Refine": Refinement(rafa=0.03, teacher=0.5),
        "before": Refinement(share=0.0),
        "mean shift": Refinement(share=0.0, shifted=True),
        "contrastive": Refinement(),
        "distillation alone": Refinement(teacher=0.5),
    },
    better="lower",
    runs="clip_refine",
)
