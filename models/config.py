"""The config of the model: one tower per modality, and the joint space. Imports no torch."""

from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, Field, model_validator

from tercet.configs.base import Config, Misfit
from tercet.errors import did_you_mean
from tercet.modality import MODALITIES


class LoraConfig(Config):
    """Low-rank updates of frozen weights (Hu et al. 2022): the weight is W + alpha / rank · B A."""

    rank: int = Field(8, gt=0, description="the rank of each update")
    alpha: float = Field(16.0, gt=0, description="strength of the updates: each is multiplied by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the input of each update")
    targets: tuple[str, ...] = Field(
        (),
        description="update only layers whose names end like this, such as [q_proj, v_proj]; default: all linear ones "
        "of the blocks",
    )


class AdapterConfig(Config):
    """A residual bottleneck on the tower's output (Gao et al. 2021)."""

    reduction: int = Field(4, gt=0, description="how many times narrower the bottleneck is than the output")
    ratio: float = Field(
        0.2, gt=0, lt=1, description="share of the bottleneck in the result; the rest is the tower's own output"
    )


class ProjectionConfig(Config):
    """An MLP in place of the linear projection into the joint space. Evaluation uses it, as the linear one."""

    layers: int = Field(2, gt=1, description="how many linear layers, with a GELU between them")
    hidden: int = Field(1024, gt=0, description="width between the layers")
    unit: bool = Field(False, description="bring the tower's output to length 1 first")
    noise: float = Field(
        0.0,
        ge=0,
        description="with `unit`: the standard deviation of the Gaussian noise that training adds to each dimension of "
        "this output, which then gets length 1 again (C-MCR, Wang et al. 2023)",
    )

    @model_validator(mode="after")
    def _scales_its_noise(self) -> "ProjectionConfig":
        if self.noise and not self.unit:
            raise Misfit("noise", "is for outputs of length 1; set `unit: true`, or leave it out")
        return self


class TowerConfig(Config):
    """One modality's encoder."""

    encoder: str = Field(
        "",
        description="FAMILY:NAME, such as `open_clip:ViT-B-32`, `timm:naflexvit_base_patch16_siglip` or `small:image`; "
        "default: the encoder of `init`",
    )
    size: int | None = Field(None, gt=0, description="image only: side in pixels; default: the encoder's own")
    patch_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="image only: share of the patches that training leaves out, at random for each picture (FLIP); "
        "evaluation sees all",
    )
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="text only: share of the input of each block that training sets to zero, for small data; for "
        "`small:text` and the text transformers of open_clip, others have `options`",
    )
    context_length: int | None = Field(
        None,
        gt=1,
        description="text only: how many tokens of a caption the tower reads; the positions of weights of another "
        "length are cut or stretched; default: the encoder's own",
    )
    keep_positions: int = Field(
        20,
        ge=0,
        description="with `context_length`: how many of the first positions stay as they are if the others are "
        "stretched (Long-CLIP)",
    )
    alpha: bool = Field(
        False,
        description="image only: a fourth channel says where to look, from a mask beside the picture "
        "(`KEY.alpha.png`); a picture without one has 1 everywhere (Alpha-CLIP)",
    )
    features: str = Field("ast16k128", description="audio only: the log-mel front end")
    seconds: float = Field(10.0, gt=0, description="audio only: length of a training crop and of an evaluation tile")
    unlocked: int | None = Field(
        None, ge=0, description="train only this many of the last blocks; 0 locks the tower; default: train all"
    )
    cached: str | None = Field(
        None,
        description="of a locked tower: the folder with its outputs for the training samples, which `tercet embed "
        "--format features` wrote; training then reads these, and decodes no pictures, sounds or captions for it",
    )
    grad_checkpointing: bool = Field(False, description="recompute activations in the backward pass to save memory")
    frozen_batchnorm: bool = Field(
        False,
        description="train with fixed BatchNorm statistics; a tower that has BatchNorm cannot be trained otherwise",
    )
    lr_scale: float = Field(1.0, gt=0, description="this tower's learning rate relative to `optimizer.lr`")
    layer_decay: float = Field(1.0, gt=0, le=1, description="learning rate of each block relative to the next block")
    lora: LoraConfig | None = Field(None, description="freeze the tower and train low-rank updates of its weights")
    projection: ProjectionConfig | None = Field(
        None,
        description="project the tower's output into the joint space by an MLP, such as {hidden: 2048}; default: by "
        "one linear layer, or not at all if the encoder projects",
    )
    adapter: AdapterConfig | None = Field(None, description="train a small bottleneck on the tower's output")
    options: dict[str, object] = Field({}, description="keyword arguments of the encoder's own constructor")

    @model_validator(mode="after")
    def _caches_what_never_changes(self) -> "TowerConfig":
        if self.cached is not None and self.unlocked != 0:
            raise Misfit("cached", "holds the outputs of a locked tower; set `unlocked: 0`, or remove `cached`")
        return self

    @model_validator(mode="after")
    def _locks_once(self) -> "TowerConfig":
        if self.lora and self.unlocked is not None:
            raise Misfit("unlocked", "cannot be combined with `lora`, which locks the whole tower; remove one of them")
        return self

    @model_validator(mode="after")
    def _has_one_context_length(self) -> "TowerConfig":
        for option in ("context", "force_context_length"):
            if self.context_length is not None and option in self.options:
                raise Misfit("context_length", f"and `options.{option}` are both given; remove the option")
        return self


class ModelConfig(Config):
    """The joint space, and one tower per modality, under the name of the modality."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, TowerConfig]
    dim: int | None = Field(
        None, gt=0, description="dimensions of the joint space; default: those that the towers project into, or 512"
    )

    @property
    def cached(self) -> dict[str, str]:
        """The folder of the features of each tower whose outputs are stored."""
        return {name: tower.cached for name, tower in self.towers.items() if tower.cached is not None}

    @property
    def towers(self) -> dict[str, TowerConfig]:
        named = self.__pydantic_extra__
        return {modality: named[modality] for modality in MODALITIES if modality in named}

    @model_validator(mode="after")
    def _options_are_of_the_modality(self) -> "ModelConfig":
        for modality, tower in self.towers.items():
            for option, only in (
                ("patch_dropout", "image"),
                ("dropout", "text"),
                ("context_length", "text"),
                ("keep_positions", "text"),
            ):
                if modality != only and getattr(tower, option) != TowerConfig.model_fields[option].default:
                    raise Misfit(f"{modality}.{option}", f"applies to the {only} tower only; remove it")
        return self

    @model_validator(mode="before")
    @classmethod
    def _modalities_are_known(cls, raw: Any) -> Any:
        """Rejects unknown modalities. A tower set to null is removed, such as one of an extended recipe."""
        if not isinstance(raw, Mapping):
            return raw
        for key in raw:
            if key not in ("dim", *MODALITIES):
                near = did_you_mean(key, ("dim", *MODALITIES))
                raise Misfit(key, f"is not a known modality; {near} (--plugin FILE.py can add one)")
        return {key: value for key, value in raw.items() if value is not None or key == "dim"}
