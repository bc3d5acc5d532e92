"""Changes the weights of the sources of a run, and reads them from its plan when it resumes.

The plan in effect holds the weights, and a checkpoint names its plan. So a run that resumes has the same weights, and
computes a change that came after the checkpoint again, from the same weights of the model.
"""

import json
import math
from pathlib import Path

import torch

from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.fields import further_fields
from tercet.data_pipelines.plans.plan import Plan, read_plan
from tercet.data_pipelines.plans.source_weights import with_weights
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.distributed import World
from tercet.main_process import say
from tercet.models.multimodal import Multimodal
from tercet.training.checkpoints.plans import PLANS
from tercet.training.checkpoints.progress import Progress
from tercet.training.config import RunConfig
from tercet.training.hooks.metrics_file import forget_after
from tercet.training.loop.stage import Stage
from tercet.training.source_weights.gradient import ProjectionGradient
from tercet.training.source_weights.probe import Probes
from tercet.training.source_weights.update import alignments, updated

WEIGHTS = "source_weights.jsonl"


class SourceWeights:
    """The weights of the sources of a run, in its folder."""

    def __init__(self, folder: Path, world: World, sources: OpenedSources) -> None:
        self.folder, self.world, self.sources = folder, world, sources

    def check(self, config: RunConfig, plan: Plan, model: Multimodal) -> None:
        """Refuses a target, and sources, that gradients cannot be computed from. A collective."""
        if config.source_weights:
            Probes(config, self.sources, self.world).check(plan, list(model.fields))

    def resumed(self, data: DataConfig, config: RunConfig, progress: Progress) -> DataConfig:
        """The data of the stage that made a checkpoint, with the weights of its plan."""
        if config.source_weights is None or not progress.plan:
            return data
        return with_plan(data, read_plan(self.folder / PLANS, progress.plan))

    def change(self, stage: Stage, model: Multimodal, data: DataConfig, step: int) -> DataConfig:
        """The data with the weights from this step on. `model`: a plain copy with the weights of that step. A
        collective."""
        config, world = stage.config.source_weights, self.world
        assert config is not None
        probes = Probes(stage.config, self.sources, world)
        number = config.steps_in(stage.steps).index(step)
        intakes = {name: intake for name, intake in model.intakes.items() if name in model.fields}
        further = further_fields(model.fields, stage.config.fields, model.intakes)
        gradient = ProjectionGradient(model, stage.take.terms, stage.config, world)
        target_P = gradient(probes.of_target(number, intakes, further), step)
        source_KP = [gradient(probes.of_source(name, number, intakes, further), step) for name in data.train]
        alignment_K = alignments(torch.stack(source_KP), target_P, config)
        weight_K = torch.tensor([share.weight for share in stage.loader.plan.shares])
        new = world.broadcast(updated(weight_K, alignment_K.cpu(), config).tolist())
        weights = dict(zip(data.train, new, strict=True))
        if world.first:
            self._record(step, dict(zip(data.train, alignment_K.tolist(), strict=True)), weights)
        return with_weights(data, weights)

    def _record(self, step: int, alignment: dict[str, float], weights: dict[str, float]) -> None:
        path = self.folder / WEIGHTS
        forget_after(path, step - 1)  # what a run wrote that was killed before its next checkpoint
        broken = [name for name, value in alignment.items() if not math.isfinite(value)]
        if broken:
            say(f"step {step:,}: source_weights: a gradient is not finite ({', '.join(broken)}), so no weight changes")
        # JSON has no NaN and no infinity: they become null.
        line = {"step": step, "alignment": {**alignment, **dict.fromkeys(broken)}, "weights": weights}
        with path.open("a", encoding="utf-8") as lines:
            print(json.dumps(line, allow_nan=False), file=lines)


def with_plan(data: DataConfig, plan: Plan) -> DataConfig:
    """The data with the weights of a plan, if it has the same sources."""
    weights = {share.name: share.weight for share in plan.shares}
    return with_weights(data, weights) if weights.keys() == data.train.keys() else data
