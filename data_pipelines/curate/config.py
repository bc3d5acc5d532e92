"""The options of `tercet curate score`. Imports no torch."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from tercet.configs.base import Config, Misfit
from tercet.data_pipelines.curate.score_group import GROUP_NAME
from tercet.errors import did_you_mean
from tercet.modality import MODALITIES

ALONE = ("signals", "duplicates", "words_in_image")  # groups that need no model
BY_MODEL = ("similarity", "learnability", "semantic_duplicates", "cartography")
USUAL_SOURCE = "data"


class ScoreConfig(Config):
    """What is computed for each sample, and by which models."""

    groups: tuple[str, ...] = Field(
        (),
        description=f"groups of columns, separated by commas: {', '.join((*ALONE, *BY_MODEL))}; default: signals and "
        "duplicates; with a model, similarity; with a model and a reference, learnability",
    )
    by: str | None = Field(None, description="the model that scores; of cartography, the run")
    reference: str | None = Field(
        None, description="learnability: the reference model, whose loss is subtracted from that of the model"
    )
    name: str | None = Field(None, description="name of the group, if only one is computed; default: its own")
    source: str = Field(USUAL_SOURCE, description="name of the data in the table")
    among: str | None = Field(
        None,
        description="semantic_duplicates: the modality that is compared; default: pictures, else sounds, else text",
    )
    clusters: int | None = Field(
        None, gt=0, description="semantic_duplicates: number of clusters; default: one for 1,000 samples"
    )
    eps: float = Field(
        0.05, gt=0, lt=2, description="semantic_duplicates: samples with a cosine above 1 - eps are duplicates"
    )
    batch_size: int = Field(1024, gt=1, description="learnability: pairs that are compared with each other")
    seed: int = Field(0, ge=0, description="of the batches of learnability, and of the first centroids")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="of the model")
    dims: int | None = Field(None, gt=0, description="cut all vectors of the model to their first dimensions")
    workers: int | None = Field(
        None, gt=0, description="worker processes of groups that need no model; default: one for each core"
    )

    @field_validator("groups", mode="before")
    @classmethod
    def _listed(cls, raw: object) -> object:
        return tuple(name.strip() for name in raw.split(",")) if isinstance(raw, str) else raw

    @field_validator("groups")
    @classmethod
    def _known(cls, groups: tuple[str, ...]) -> tuple[str, ...]:
        for group in groups:
            if group not in (*ALONE, *BY_MODEL):
                raise ValueError(f"`{group}` is not a group; {did_you_mean(group, (*ALONE, *BY_MODEL))}")
        return groups

    @field_validator("name")
    @classmethod
    def _valid_name(cls, name: str | None) -> str | None:
        if name is not None and not GROUP_NAME.fullmatch(name):
            raise ValueError(f"`{name}` cannot name a group of scores; use small letters, digits and _")
        return name

    @field_validator("among")
    @classmethod
    def _modality(cls, among: str | None) -> str | None:
        if among is not None and among not in MODALITIES:
            raise ValueError(f"`{among}` is not a modality; {did_you_mean(among, MODALITIES)}")
        return among

    @model_validator(mode="after")
    def _fits(self) -> "ScoreConfig":
        for group in self.computed:
            if group in BY_MODEL and self.by is None:
                raise Misfit("groups", f"{group} needs a model; name it with `by`")
        if "learnability" in self.computed and self.reference is None:
            raise Misfit("groups", "learnability needs a second model; name it with `reference`")
        if self.reference is not None and "learnability" not in self.computed:
            raise Misfit("reference", "only learnability needs it; add learnability to the groups, or leave it out")
        if self.name is not None and len(self.computed) > 1:
            raise Misfit("name", f"{len(self.computed)} groups cannot have one name; compute one at a time")
        return self

    @property
    def computed(self) -> tuple[str, ...]:
        """The given groups; without any, the default ones."""
        usual = ("signals", "duplicates") if self.by is None else ("similarity",)
        return self.groups or (("learnability",) if self.by is not None and self.reference is not None else usual)
