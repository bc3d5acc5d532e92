"""What a recipe says of the model: one tower per modality and the space they share. Imports no torch."""

from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from tercet.configs.base import Config, Misfit
from tercet.modality import MODALITIES


class LoraConfig(Config):
    """Low-rank updates beside frozen weights (Hu et al. 2022): the weight is W + alpha / rank · B A."""

    rank: int = Field(8, gt=0, description="the rank of each update")
    alpha: float = Field(16.0, gt=0, description="how much an update counts: it is scaled by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="of what enters an update")
    targets: tuple[str, ...] = Field(
        (), description="ends of layers' names, as [q_proj, v_proj]; nothing: all linear ones of the blocks"
    )


class AdapterConfig(Config):
    """A residual bottleneck on the tower's output (Gao et al. 2021)."""

    reduction: int = Field(4, gt=0, description="how many times narrower the bottleneck is than the tower's output")
    ratio: float = Field(0.2, gt=0, lt=1, description="the share of what is learned; the rest is the tower's own")


class TowerConfig(Config):
    """One modality's encoder."""

    encoder: str = Field(
        description="FAMILY:NAME, as `open_clip:ViT-B-32`, `timm:naflexvit_base_patch16_siglip` or `small:image`"
    )
    size: int | None = Field(None, gt=0, description="image side in pixels; the encoder's own if not given")
    features: str = Field("ast16k128", description="audio only: the log-mel front end")
    seconds: float = Field(10.0, gt=0, description="audio only: length of a training crop and of an evaluation tile")
    unlocked: int | None = Field(
        None, ge=0, description="how many of the last blocks train: 0 locks the tower, nothing given trains all of it"
    )
    grad_checkpointing: bool = Field(False, description="recompute activations in the backward pass to save memory")
    frozen_batchnorm: bool = Field(False, description="accept a tower with BatchNorm and never update its statistics")
    lr_scale: float = Field(1.0, gt=0, description="this tower's learning rate relative to `optimizer.lr`")
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="each block's learning rate relative to that of the block above it"
    )
    lora: LoraConfig | None = Field(None, description="train low-rank updates of the tower and nothing else of it")
    adapter: AdapterConfig | None = Field(None, description="a small trained correction of the tower's output")
    options: dict[str, object] = Field({}, description="keyword arguments of the encoder's own constructor")

    @model_validator(mode="after")
    def _one_way_to_lock(self) -> "TowerConfig":
        if self.lora and self.unlocked is not None:
            raise Misfit("unlocked", "does not go with `lora`, which locks all of the tower; leave one of them out")
        return self


class ModelConfig(Config):
    """The towers and the joint space."""

    dim: int = Field(512, gt=0, description="dimensions of the joint space")
    image: TowerConfig | None = None
    audio: TowerConfig | None = None
    text: TowerConfig | None = None

    @property
    def towers(self) -> dict[str, TowerConfig]:
        named = {modality: getattr(self, modality) for modality in MODALITIES}
        return {modality: tower for modality, tower in named.items() if tower is not None}


class ObjectiveConfig(Config):
    """A registered objective and its fields; written as a bare name when it has none to set."""

    model_config = ConfigDict(extra="allow")
    name: str = "infonce"

    @model_validator(mode="before")
    @classmethod
    def _from_bare_name(cls, raw: Any) -> Any:
        return {"name": raw} if isinstance(raw, str) else raw


class TermConfig(Config):
    """Which fields are drawn together, by which objective, and how much it counts."""

    between: tuple[str, str] = Field(description="two fields, as [image, text]")
    objective: ObjectiveConfig = ObjectiveConfig()
    weight: float = Field(1.0, gt=0)

    @property
    def name(self) -> str:
        return "-".join(self.between)


Precision = Literal["fp32", "bf16"]
