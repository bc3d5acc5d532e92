"""The options of `tercet curate learn`. Imports no torch."""

from pydantic import Field, field_validator

from tercet.configs.base import Config


class LearnConfig(Config):
    """How a scorer of pairs is trained, and what it reads."""

    columns: tuple[str, ...] = Field(
        (),
        description="M-FLYT: learn a mixture of these columns of the score table, as similarity.image_text, separated "
        "by commas; default: score the vectors of each pair",
    )
    name: str = Field("flyt", description="name of the group in the score table")
    source: str = Field("data", description="name of the data in the table")
    steps: int = Field(1000, gt=0, description="steps of the scorer")
    batch_size: int = Field(1024, gt=1, description="pairs of the data that a step weighs")
    target_batch: int = Field(1024, gt=1, description="pairs of the target that a step's result is measured on")
    lr: float = Field(1e-3, gt=0, description="learning rate of the scorer")
    inner_lr: float = Field(0.1, gt=0, description="learning rate of the model that is trained on weighted pairs")
    scale: float = Field(30.0, gt=0, description="inverse temperature of both losses")
    width: int = Field(256, gt=0, description="hidden units of the scorer of vectors")
    samples: int = Field(100_000, gt=1, description="pairs of the data to learn from, drawn at random; all are scored")
    seed: int = Field(0, ge=0, description="of the scorer's first weights and of the batches")

    @field_validator("columns", mode="before")
    @classmethod
    def _separated(cls, raw: object) -> object:
        return tuple(one.strip() for one in raw.split(",")) if isinstance(raw, str) else raw
