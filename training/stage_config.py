"""The recipe key `stages`. Imports no torch."""

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from tercet.configs.base import Config, Misfit
from tercet.errors import did_you_mean
from tercet.modality import MODALITIES

if TYPE_CHECKING:
    from tercet.training.config import RunConfig

# The keys that a stage may change. All others hold for the whole run.
STAGED = (
    "data", "fields", "pairs", "against", "terms", "objective", "optimizer", "schedule", "batch_size", "micro_batch",
    "selection", "episodes", "source_weights", "mixup",
)  # fmt: skip
STAGED_OF_TOWERS = ("model.image.size", "model.image.patch_dropout", "model.text.context_length")
STAGED_OF_ANY = ("unlocked", "cached")  # of each tower


class StageConfig(Config):
    """One part of a run: its length, and the keys of the recipe that it changes."""

    name: str
    steps: int | float = Field(gt=0, description="optimizer steps; below 1, a share of the run's steps")
    set: dict[str, Any] = Field({}, description="keys to change: {optimizer.lr: 1e-4, model.image.unlocked: 2}")

    @model_validator(mode="after")
    def _sets_what_a_stage_may(self) -> "StageConfig":
        of_any = (f"model.{modality}.{key}" for modality in MODALITIES for key in STAGED_OF_ANY)
        known = [*STAGED, *STAGED_OF_TOWERS, *of_any]
        for key in self.set:
            if key not in known and key.partition(".")[0] not in STAGED:
                raise Misfit(f"set.{key}", f"cannot change in a stage; {did_you_mean(key, known)}")
        return self


def check_stages(run: "RunConfig") -> None:
    """Refuses stages that do not add up to the run, and any that is not a valid run by itself."""
    names = [stage.name for stage in run.stages]
    if len(set(names)) < len(names):
        raise Misfit("stages", "has two stages of the same name; rename one of them")
    total = sum(stage.steps for stage in run.stages)
    if any(stage.steps < 1 for stage in run.stages):
        if abs(total - 1) > 1e-9:
            raise Misfit("stages", f"has shares that add up to {total:g}; make them add up to 1")
    elif run.stages and total != run.steps:
        raise Misfit("steps", f"is {run.steps}, but the stages add up to {total}; remove `steps`")
    for index in range(len(run.stages)):
        run.stage(index)


def check_contexts(run: "RunConfig") -> None:
    """Refuses a longer context whose positions could not be stretched, before the stages ahead of it train."""
    key = "model.text.context_length"
    text = run.model.towers.get("text")
    if text is None or not any(key in stage.set for stage in run.stages):
        return
    if text.context_length is None:
        raise Misfit(key, "is missing: a stage changes it, so give it a value for the other stages")
    towers = [run.stage(index).model.towers["text"] for index in range(len(run.stages))]
    lengths = [tower.context_length or text.context_length for tower in towers]
    for index, (before, after) in enumerate(pairwise(lengths), start=1):
        if before < after and before - text.keep_positions < 2:
            raise Misfit(
                f"stages.{index}.set.{key}",
                f"is {after} after {before}, of which model.text.keep_positions={text.keep_positions} leaves fewer "
                f"than 2 to stretch; set that to {before - 2} or less",
            )


def sum_of_steps(stages: Any) -> int:
    """The sum of the stages' steps; 0 if they are malformed, because their own validation reports that."""
    if not isinstance(stages, list | tuple) or not all(isinstance(stage, dict) for stage in stages):
        return 0
    steps = [stage.get("steps") for stage in stages]
    return sum(count for count in steps if isinstance(count, int))
