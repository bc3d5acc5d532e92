"""DeGLA beside NegCLIP: fine-tuned on wrong captions, how much of what it knew does a model forget?

Each run first trains the strong baseline, then fine-tunes it with the method on a narrow part of the world: scenes of
two objects, most of them of a few shapes and colours. Held-out scenes of the whole world show what is left.

The weights of DeGLA's terms are those of the recipe `degla`. Its average follows over about 100 steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tercet.benchmarks.claims.experiment import built_in
from tercet.benchmarks.claims.experiment.claim import Claim
from tercet.benchmarks.claims.experiment.strong import RECALL, SECONDS, WORLD, Strong, measured
from tercet.benchmarks.claims.negclip import NEGCLIP
from tercet.data_pipelines.builtin.config import WorldConfig

NARROW = {**WORLD, "objects": (0.0, 1.0, 0.0), "long_tail": 2.0, "train": 2_000, "val": 20, "seed": 4}
OWN = {"between": ["image", "text"], "against": {"image": ["text.negative"]}, "directions": {"image": 1}}
AVERAGED = {"between": ["text", "momentum.text"], "against": {"text": ["text.negative"]}}
DEGLA: dict[str, Any] = {
    "fields": NEGCLIP["fields"],
    "memories": {"momentum": {"decay": 0.99}},
    "terms": [
        *NEGCLIP["terms"],
        {
            "name": "image-text.local",
            **OWN,
            "objective": {"name": "infonce", "own_negatives_only": True},
            "weight": 0.1,
        },
        {
            "name": "text-momentum",
            **AVERAGED,
            "objective": {"name": "infonce", "own_negatives_only": True, "scale": 10, "bounds": [10, 10]},
            "weight": 0.1,
        },
        {
            "name": "distillation",
            "between": ["image", "text", "text.negative"],
            "objective": "feature_distillation",
            "references": {"teacher": "momentum"},
            "weight": 1.28,
        },
    ],
}


@dataclass(frozen=True)
class Tuning:
    """`steps`: of the baseline. `share`: steps with the method, of these. `lr`: with the method."""

    method: Mapping[str, Any]
    steps: int = 600
    share: float = 0.3
    lr: float = 5e-4

    def run(self, seed: int) -> dict[str, float]:
        whole, narrow = (built_in.generated(WorldConfig.model_validate(world)) for world in (WORLD, NARROW))
        with TemporaryDirectory() as folder:
            start, end = Path(folder) / "before", Path(folder) / "after"
            Strong(steps=self.steps).train(start, whole, seed)
            tuning = Strong(self.method, steps=round(self.share * self.steps), lr=self.lr)
            seconds = tuning.train(end, narrow, seed, init=start)
            known, kept = measured(start, whole), measured(end, whole)
        lost = {f"{name}, lost": known[name] - kept[name] for name in known}
        return {**kept, **lost, SECONDS: seconds}


CLAIM = Claim(
    says="Fine-tuned on wrong captions of narrow data, DeGLA forgets less of retrieval than NegCLIP.",
    source="Hu et al. 2025",
    measure=f"{RECALL}, lost",
    arms={"DeGLA": Tuning(DEGLA), "NegCLIP": Tuning(NEGCLIP)},
    better="lower",
)
