"""What a recipe says of the model: one tower per modality and the space they share. Imports no torch."""

from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from tercet.configs.base import Component, Config, Misfit
from tercet.errors import did_you_mean
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
        "",
        description="FAMILY:NAME, as `open_clip:ViT-B-32`, `timm:naflexvit_base_patch16_siglip` or `small:image`; "
        "nothing: as `init` has it",
    )
    size: int | None = Field(None, gt=0, description="image side in pixels; the encoder's own if not given")
    features: str = Field("ast16k128", description="audio only: the log-mel front end")
    seconds: float = Field(10.0, gt=0, description="audio only: length of a training crop and of an evaluation tile")
    unlocked: int | None = Field(
        None, ge=0, description="how many of the last blocks train: 0 locks the tower, nothing given trains all of it"
    )
    grad_checkpointing: bool = Field(False, description="recompute activations in the backward pass to save memory")
    frozen_batchnorm: bool = Field(
        False,
        description="train a tower with BatchNorm and never update its statistics; needed to train such a tower",
    )
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
    """The joint space, and a tower under the name of each modality."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, TowerConfig]
    dim: int | None = Field(
        None, gt=0, description="dimensions of the joint space; nothing: what the towers project into, or else 512"
    )

    @property
    def towers(self) -> dict[str, TowerConfig]:
        named = self.__pydantic_extra__
        return {modality: named[modality] for modality in MODALITIES if modality in named}

    @model_validator(mode="before")
    @classmethod
    def _of_modalities(cls, raw: Any) -> Any:
        """A tower of nothing is taken away, as one that a recipe extends."""
        if not isinstance(raw, Mapping):
            return raw
        for key in raw:
            if key not in ("dim", *MODALITIES):
                near = did_you_mean(key, ("dim", *MODALITIES))
                raise Misfit(key, f"is of no known modality; {near} (--plugin FILE.py may bring more)")
        return {key: value for key, value in raw.items() if value is not None or key == "dim"}


class ObjectiveConfig(Component):
    """An objective by name."""

    name: str = "infonce"


class TermConfig(Config):
    """Which fields are trained together, by which objective, and how much that counts."""

    name: str = Field("", description="of its temperature and its loss; default: its two fields, as image-text")
    between: tuple[str, str] = Field(description="two fields, as [image, text]")
    against: dict[str, tuple[str, ...]] = Field(
        {},
        description="extra negatives for the anchors of a field: {image: [text.negative], text: [queue.image]}; fields "
        "of the batch, or vectors that a memory holds",
    )
    objective: ObjectiveConfig = ObjectiveConfig()
    weight: float = Field(1.0, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _named_by_its_fields(cls, raw: Any) -> Any:
        between = raw.get("between") if isinstance(raw, Mapping) else None
        if isinstance(between, list | tuple) and not raw.get("name"):
            return {**raw, "name": "-".join(map(str, between))}
        return raw

    @model_validator(mode="after")
    def _compares_what_it_trains(self) -> "TermConfig":
        one, other = self.between
        if one == other:
            raise Misfit("between", f"names `{one}` twice. Give two different fields, as [image, text]")
        for anchor, names in self.against.items():
            if anchor not in self.between:
                raise Misfit(f"against.{anchor}", f"is not a field of this term; {did_you_mean(anchor, self.between)}")
            for name in names:
                if name in self.between:
                    raise Misfit(f"against.{anchor}", f"names `{name}`, which the term compares with already; drop it")
                if names.count(name) > 1:
                    raise Misfit(f"against.{anchor}", f"names `{name}` twice; name it once")
        return self

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a name that goes without saying."""
        written = self._without_idle_fields(handler)
        return {key: value for key, value in written.items() if (key, value) != ("name", "-".join(self.between))}

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of the batch and of memories that it needs."""
        return (*self.between, *(name for names in self.against.values() for name in names))
