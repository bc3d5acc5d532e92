"""The part of a recipe that configures evaluation. Imports no torch."""

from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from tercet.configs.base import Config, Misfit


class EvalConfig(Config):
    """When a run is evaluated, on which tasks, and what its report contains."""

    tasks: tuple[str, ...] = Field(
        ("retrieval",), description="tasks by name, from eval/tasks, or paths of YAML files; empty: no evaluation"
    )
    labels: tuple[str, ...] | dict[str, str] = Field(
        (),
        description="the classes of the task `zero_shot`, as [boat, car], or with their words in prompts, as "
        "{boat: a sailing boat}; empty: those of the data, or of the generated dataset",
    )
    templates: tuple[str, ...] = Field(
        (),
        description="prompts for `labels`, as `a photo of a {class}.`; empty: that for pictures, and `This is a sound "
        "of {class}.` for sounds",
    )
    every: int | float | None = Field(
        None,
        gt=0,
        description="steps between evaluations; below 1: a share of the run; null: evaluate once, at the end",
    )
    warn: bool = Field(
        True,
        description="warn if a metric collapses: its whole interval becomes worse than that of the best evaluation",
    )
    before: bool = Field(False, description="also evaluate the weights before training")
    wise_ft: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        (),
        description="also evaluate interpolations of the weights before (0) and after (1) training, as [0.25, 0.5]",
    )
    keep_wise_ft: bool = Field(
        False, description="save the best interpolation as a model, in `wise_ft` in the run's folder"
    )
    batch_size: int = Field(256, gt=0, description="samples that a rank embeds at a time")
    captions: int | None = Field(
        None, gt=0, description="how many captions of a sample are evaluated, the first ones; null: all"
    )
    candidates: int | None = Field(
        None, gt=1, description="number of unique items among which retrieval searches, the first ones; null: all"
    )
    shortcuts: int = Field(
        0,
        ge=0,
        description="fit shortcut baselines for R@1 on this many samples of each training source; 0: no baselines",
    )
    report: bool = Field(True, description="write report.html at the end of the run")

    @field_validator("templates", mode="before")
    @classmethod
    def _one_or_more(cls, raw: Any) -> Any:
        return (raw,) if isinstance(raw, str) else raw

    @field_validator("templates")
    @classmethod
    def _slotted(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        for template in templates:
            if "{class}" not in template:
                raise ValueError(f"`{template}` has no place for the class; write it as a photo of a {{class}}.")
        return templates

    @field_validator("wise_ft", mode="before")
    @classmethod
    def _none_is_empty(cls, raw: Any) -> Any:
        return () if raw is None else raw

    @model_validator(mode="after")
    def _classifies(self) -> "EvalConfig":
        if self.labels and "zero_shot" not in self.tasks:
            raise Misfit("labels", "are the classes of the task `zero_shot`; add it to `eval.tasks`, or leave them out")
        if self.templates and not self.labels:
            raise Misfit("templates", "are prompts for `eval.labels`; name the classes there, or leave them out")
        return self

    @model_validator(mode="after")
    def _has_interpolations(self) -> "EvalConfig":
        if self.wise_ft and not self.tasks:
            raise Misfit("wise_ft", "compares results, but `eval.tasks` is empty; name a task, or set eval.wise_ft=[]")
        if self.keep_wise_ft and not self.wise_ft:
            raise Misfit("keep_wise_ft", "needs interpolations to choose from; set `eval.wise_ft`, such as [0.25, 0.5]")
        return self

    def interval(self, steps: int) -> int | None:
        """Steps between evaluations, in a run of `steps` steps."""
        if self.every is None:
            return None
        return int(self.every if self.every >= 1 else max(self.every * steps, 1))
