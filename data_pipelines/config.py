"""What a recipe says of the data. Imports no torch."""

from pydantic import Field

from tercet.configs.base import Config


class DataConfig(Config):
    """Shards to learn from and shards to be examined on."""

    train: str | tuple[str, ...] = Field(
        description="WebDataset shards: a folder, a pattern as `shards/{000..099}.tar`, or a list of them"
    )
    val: str | tuple[str, ...] | None = Field(None, description="held-out shards for evaluation")
    workers: int = Field(2, ge=0, description="threads that decode ahead on each rank; 0 decodes in the loop")
    max_bad: float = Field(0.01, ge=0, le=1, description="share of bad samples above which the run stops")
    crop: tuple[float, float] | None = Field(
        (0.9, 1.0),
        description="range of the share that a random training crop keeps of the largest one that fits; "
        "nothing: the centre, as at evaluation",
    )
