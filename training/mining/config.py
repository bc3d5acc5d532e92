"""The options of mining. Their names are those of `mine_hard_negatives` of sentence-transformers. Imports no torch."""

from typing import Literal, get_args

from pydantic import Field, model_validator

from tercet.configs.base import Config, Misfit

Format = Literal["triplet", "n-tuple", "labeled-pair", "labeled-list"]
FORMATS: tuple[Format, ...] = get_args(Format)
POOL = 10  # candidates that are found for each negative, without `range_max`


class MiningConfig(Config):
    """Which samples are compared, and which of the nearest ones become negatives."""

    query: str | None = Field(
        None, description="modality of the samples that get negatives (default: image, else audio, text)"
    )
    to: str | None = Field(None, description="modality of the candidates (default: the same)")
    range_min: int = Field(0, ge=0, description="skip this many of the nearest candidates (default: 0)")
    range_max: int | None = Field(
        None,
        gt=0,
        description=f"keep this many of the nearest candidates (default: range_min + {POOL} × num_negatives)",
    )
    max_score: float | None = Field(None, ge=-1, le=1, description="drop candidates with a larger cosine")
    min_score: float | None = Field(None, ge=-1, le=1, description="drop candidates with a smaller cosine")
    absolute_margin: float | None = Field(
        None, ge=0, le=2, description="drop candidates whose cosine is larger than the positive's minus this"
    )
    relative_margin: float | None = Field(
        None, ge=0, le=1, description="the same with a share of the positive's cosine; 0.05 is usual (NV-Retriever)"
    )
    num_negatives: int = Field(3, gt=0, description="negatives of each sample, at most (default: 3)")
    sampling_strategy: Literal["top", "random"] = Field(
        "top", description="take the nearest of the candidates that are left, or random ones (default: top)"
    )
    seed: int = Field(0, ge=0, description="of the strategy random (default: 0)")
    use_faiss: bool = Field(False, description="search approximately, with faiss; for millions of samples")
    output_format: Format | None = Field(None, description="also write a table: triplet, n-tuple, labeled-pair, …")
    output_scores: bool = Field(False, description="write the cosines into the table, in place of labels")

    @property
    def depth(self) -> int:
        """How many of the nearest candidates of each sample the rules see."""
        return self.range_max or self.range_min + POOL * self.num_negatives

    @model_validator(mode="after")
    def _scores_a_table(self) -> "MiningConfig":
        if self.output_scores and self.output_format is None:
            raise Misfit("output_scores", f"needs a table; give output_format as well: {', '.join(FORMATS)}")
        return self

    @model_validator(mode="after")
    def _leaves_enough(self) -> "MiningConfig":
        if self.range_max is not None and self.range_max - self.range_min < self.num_negatives:
            left = max(self.range_max - self.range_min, 0)
            raise Misfit(
                "range_max",
                f"leaves {left} candidates after range_min, fewer than num_negatives, which is {self.num_negatives}; "
                f"give {self.range_min + self.num_negatives} or more",
            )
        if self.min_score is not None and self.max_score is not None and self.min_score >= self.max_score:
            raise Misfit("min_score", f"is {self.min_score:g}, but max_score is {self.max_score:g}; give a smaller one")
        return self
