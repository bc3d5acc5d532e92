"""The runs that `tercet bench scaling` compares: a share of the data, a tower and a method, all at equal compute.

The compute of a run is the number of floating-point operations of its training steps, as `count_step` counts them: with
the further views of SLIP, and without the patches that FLIP leaves out. So a cheaper tower or method takes more steps.
"""

from dataclasses import dataclass
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from tercet.api.train import train
from tercet.benchmarks.claims.experiment.built_in import RETRIEVAL, generated
from tercet.configs.layers import Layer
from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.data_pipelines.fields import further_fields
from tercet.models.multimodal import build_model
from tercet.training.loop.flops import count_step
from tercet.training.recipe import layered

RECIPE = "strong_baseline"
WORLD: dict[str, Any] = {
    "objects": (0.4, 0.6, 0.0), "generic": 0.0, "train": 4_000, "val": 500, "combinations": 0, "seconds": 0.5,
    "rate": 8_000, "seed": 3,
}  # fmt: skip
PLAIN: dict[str, Any] = {"crop": [0.9, 1.0], "augment": {"image": {"jitter": 0, "blur": 0}}}
VIEWS = ["image.one", "image.two"]
METHODS: dict[str, dict[str, Any]] = {
    "CLIP": {"data": PLAIN},
    "CLIP + augmentation": {},
    "SLIP": {
        "data": PLAIN,
        "fields": {view: {"from": "image", "crop": [0.5, 1.0]} for view in VIEWS},
        "terms": [
            {"between": ["image", "text"]},
            {"between": VIEWS, "projector": {"layers": 3, "hidden": 256, "dim": 64}},
        ],
    },
    "FLIP": {"data": PLAIN, "model": {"image": {"patch_dropout": 0.5}}},
}  # fmt: skip
TOWERS: dict[str, dict[str, Any]] = {
    "small": {"encoder": "small:image", "options": {"width": 64, "heads": 2}},
    "large": {"encoder": "small:image", "options": {"width": 128, "depth": 3}},
}
R1, STEPS, SAMPLES = "R@1", "steps", "samples"


@dataclass(frozen=True)
class Cell:
    """One run. `share`: how much of the training data is used. `tower`: one of `TOWERS`, or FAMILY:NAME. `data`:
    shards, a table or a folder, of which a tenth is held out; none: the built-in world."""

    share: float
    tower: str
    method: str
    flops: float
    data: str | None = None
    batch_size: int = 64
    lr: float = 1e-3

    @property
    def name(self) -> str:
        return f"{self.method}, {self.tower}, {self.share:g} of the data"

    def run(self, seed: int) -> dict[str, float]:
        with TemporaryDirectory() as folder:
            settings, steps = self.settings(), self.steps()
            results = train(RECIPE, out=folder, seed=seed, **settings, steps=steps, schedule={"warmup": 0.1}).results
        recall = 100 * fmean(results[name].value for name in RETRIEVAL)
        return {R1: recall, STEPS: steps, SAMPLES: steps * self.batch_size}

    def steps(self) -> int:
        """How many steps the compute is enough for, at least one."""
        config = layered(RECIPE, [Layer("tercet bench scaling", self.settings())])
        model = build_model(config.model, config.terms, 0)
        further = further_fields(model.fields, config.fields, model.intakes)
        intakes = {name: one for name, one in model.intakes.items() if name in model.fields}
        intakes |= {name: field.intake for name, field in further.items()}
        return max(1, round(self.flops / (self.batch_size * count_step(model, intakes))))

    def settings(self) -> dict[str, Any]:
        """The keys of the recipe."""
        method = dict(METHODS[self.method])
        image = {**TOWERS.get(self.tower, {"encoder": self.tower}), **method.pop("model", {}).get("image", {})}
        return {
            "model": {"image": image},
            "batch_size": self.batch_size,
            "optimizer": {"lr": self.lr},
            "eval": {"tasks": ["retrieval"], "shortcuts": 0, "candidates": 1_000, "report": False},
            "log": {"to": [], "analysis": False},
            **method,
            "data": {**method.get("data", {}), **self._sources()},
        }

    def _sources(self) -> dict[str, Any]:
        if self.data is None:
            world = generated(WorldConfig.model_validate(WORLD))
            return {"train": {"source": str(world / "train"), "part": [0, self.share]}, "val": str(world / "val")}
        held = {"source": self.data, "part": [0, 0.1]}
        return {"train": {"source": self.data, "part": [0.1, 0.1 + 0.9 * self.share]}, "val": held}
