"""What a recipe says of the data. Imports no torch."""

from typing import Any

from pydantic import Field, field_validator, model_validator

from tercet.configs.base import Config, Misfit


class DataConfig(Config):
    """Shards to learn from and shards to be examined on."""

    train: str | tuple[str, ...] = Field(
        description="WebDataset shards: a folder, a pattern as `shards/{000..099}.tar`, or a list of them"
    )
    val: dict[str, str | tuple[str, ...]] = Field(
        {}, description="held-out shards for evaluation by the name of the split; one without a name is called val"
    )
    workers: int = Field(2, ge=0, description="threads that decode ahead on each rank; 0 decodes in the loop")
    max_bad: float = Field(0.01, ge=0, le=1, description="share of bad samples above which the run stops")
    crop: tuple[float, float] | None = Field(
        (0.9, 1.0),
        description="range of the share that a random training crop keeps of the largest one that fits; "
        "nothing: the centre, as at evaluation",
    )
    keep: bool = Field(
        False, description="decode each sample once and keep it: for data that fit into memory, and `crop` of nothing"
    )

    @field_validator("val", mode="before")
    @classmethod
    def _named(cls, raw: Any) -> Any:
        return {"val": raw} if isinstance(raw, str | list | tuple) else raw or {}

    @field_validator("crop")
    @classmethod
    def _share(cls, crop: tuple[float, float] | None) -> tuple[float, float] | None:
        if crop and not 0 < crop[0] <= crop[1] <= 1:
            raise ValueError(f"crop [{crop[0]:g}, {crop[1]:g}] is no range of shares: take two numbers as [0.9, 1.0]")
        return crop

    @model_validator(mode="after")
    def _keeps_what_stays_the_same(self) -> "DataConfig":
        if self.keep and self.crop is not None:
            raise Misfit("keep", "needs pictures that are not cropped at random; set `crop: null`, or leave it out")
        return self
