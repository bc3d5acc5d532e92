"""What a recipe says of evaluation. Imports no torch."""

from pydantic import Field

from tercet.configs.base import Config


class EvalConfig(Config):
    """When a run is evaluated, and on what."""

    tasks: tuple[str, ...] = Field(("retrieval",), description="tasks by name, from eval/tasks")
    every: int | None = Field(
        None, gt=0, description="steps between evaluations while training; nothing: once, at the end"
    )
    batch_size: int = Field(256, gt=0, description="items that a rank embeds at a time")
    candidates: int | None = Field(
        None, gt=1, description="retrieval among the first so many unique items; nothing: among all"
    )
    cheats: int = Field(
        0, ge=0, description="samples of each training source that the cheats beside R@1 are fitted on; 0: none"
    )
    report: bool = Field(True, description="write report.html at the end of the run")
