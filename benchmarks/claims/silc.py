"""SILC on a strong baseline: small crops of a picture also learn from an average of the model that sees all of it.

Both arms see the same samples and captions as often. The local crops and the momentum encoder are what SILC adds; a run
shows what they cost. The paper has two global views, and both arms have one here. The linear probe is a ridge
regression from the vectors of held-out pictures of single objects to shape, colour, size and texture: fitted to half
of them, and tested on the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from tercet.benchmarks.claims.experiment import built_in
from tercet.benchmarks.claims.experiment.claim import Claim
from tercet.benchmarks.claims.experiment.strong import ATTRIBUTES, RECALL, SECONDS, WORLD, Strong, evaluated
from tercet.benchmarks.claims.negclip import OBJECTIVE
from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.eval.embedding.embed import EmbeddingTable
from tercet.eval.statistics.least_squares import accuracy

PROBE, RIDGE = "linear probe", 0.01  # of the mean square of a vector's number
SILC: dict[str, Any] = {
    "fields": {"image.local": {"from": "image", "rows": 4, "crop": [0.05, 0.4], "size": 32}},
    "memories": {"momentum": {"decay": 0.99}},
    "terms": [
        {"between": ["image", "text"], "objective": OBJECTIVE},
        {
            "name": "local",
            "between": ["image.local", "momentum.image"],
            "objective": {"name": "self_distillation", "teacher_temperature": [0.04, 0.04]},
            "projector": {"layers": 3, "hidden": 256, "dim": 64, "prototypes": 512},
        },
    ],
}


@dataclass(frozen=True)
class Probed:
    """The strong baseline, or with `method` added to it. `held_out`: scenes of the probe and of R@1."""

    method: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 300
    held_out: int = 3_000

    def run(self, seed: int) -> dict[str, float]:
        data = built_in.generated(WorldConfig.model_validate({**WORLD, "val": self.held_out}))
        with TemporaryDirectory() as folder:
            seconds = Strong(self.method, steps=self.steps).train(Path(folder), data, seed)
            table, results = evaluated(Path(folder), data / "val", candidates=1_000)
        found = probed(table)
        return {PROBE: mean(found.values()), RECALL: 100 * results[RECALL].value, **found, SECONDS: seconds}


def probed(table: EmbeddingTable) -> dict[str, float]:
    """The accuracy for each attribute of single objects, in percent."""
    shown = [table.samples[item].meta["objects"] for item in table.items["image"].tolist()]
    single = [row for row, objects in enumerate(shown) if len(objects) == 1]
    vectors = table.vectors["image"][single]
    return {
        f"{PROBE}: {attribute}": halves(vectors, [str(shown[row][0][attribute]) for row in single])
        for attribute in ATTRIBUTES
    }


def halves(z_nd: Tensor, names: Sequence[str]) -> float:
    """The accuracy in percent of a classifier that is fitted to the first half of the rows, on the others."""
    label_n, half = torch.tensor([sorted(set(names)).index(name) for name in names]), len(names) // 2
    ridge = RIDGE * float(z_nd.double().square().mean()) * half
    return accuracy(z_nd[:half], label_n[:half], z_nd[half:], label_n[half:], ridge)


CLAIM = Claim(
    says="On a strong baseline, self-distillation from local crops raises the accuracy of a linear probe.",
    source="Naeem et al. 2024",
    measure=PROBE,
    arms={"SILC": Probed(SILC), "baseline": Probed()},
)
