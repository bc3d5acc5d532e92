"""What a recipe says of evaluation. Imports no torch."""

from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from tercet.configs.base import Config, Misfit


class EvalConfig(Config):
    """When a run is evaluated, and on what."""

    tasks: tuple[str, ...] = Field(("retrieval",), description="tasks by name, from eval/tasks")
    every: int | float | None = Field(
        None,
        gt=0,
        description="steps between evaluations while training; below 1, a share of the run; nothing: once, at the end",
    )
    before: bool = Field(False, description="examine the weights that training begins with, too")
    wise_ft: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        (), description="places on the straight line from the first weights (0) to the last (1) that are examined"
    )
    keep_wise_ft: bool = Field(False, description="save the best of those places as a model, in the run's `wise_ft`")
    batch_size: int = Field(256, gt=0, description="items that a rank embeds at a time")
    candidates: int | None = Field(
        None, gt=1, description="retrieval among the first so many unique items; nothing: among all"
    )
    shortcuts: int = Field(
        0, ge=0, description="samples of each training source that the shortcuts beside R@1 are fitted on; 0: none"
    )
    report: bool = Field(True, description="write report.html at the end of the run")

    @field_validator("wise_ft", mode="before")
    @classmethod
    def _nowhere(cls, raw: Any) -> Any:
        return () if raw is None else raw

    @model_validator(mode="after")
    def _keeps_what_there_is(self) -> "EvalConfig":
        if self.keep_wise_ft and not self.wise_ft:
            raise Misfit("keep_wise_ft", "keeps the best of `wise_ft`, which is empty: give it places, as [0.25, 0.5]")
        return self

    def interval(self, steps: int) -> int | None:
        """Steps between evaluations of a run of so many."""
        if self.every is None:
            return None
        return int(self.every if self.every >= 1 else max(self.every * steps, 1))
