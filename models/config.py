"""The config of the model: one tower per modality and the joint space, and the terms of the loss. Imports no torch."""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import (
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from tercet.configs.base import Component, Config, Misfit
from tercet.errors import did_you_mean
from tercet.modality import MODALITIES, field_behind, field_of, of_memory, projected
from tercet.models.projector_config import ProjectorConfig


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


class ObjectiveConfig(Component):
    """The name of an objective, and its settings."""

    name: str = "infonce"


class RampConfig(Config):
    """A linear change of a term's weight in a part of the stage."""

    start: float = Field(0.0, ge=0, description="the weight before the change; `weight` is the one after it")
    during: tuple[float, float] = Field((0.0, 1.0), description="from and to which share of the stage it changes")

    @model_validator(mode="after")
    def _has_a_part(self) -> "RampConfig":
        first, last = self.during
        if not 0 <= first < last <= 1:
            raise Misfit("during", f"[{first:g}, {last:g}] is not a part of a stage; give two shares, such as [0, 0.2]")
        return self


class TermConfig(Config):
    """One term of the loss: the fields that it compares, its objective and its weight."""

    name: str = Field(
        "", description="names the loss and the temperature of the term; default: its fields, such as image-text"
    )
    between: tuple[str, ...] = Field(
        description="the fields to compare, such as [image, text]; some objectives take more than two, and those that "
        "compare a field with a teacher may take one. [image, momentum.text] compares pictures with the vectors of a "
        "momentum encoder, which get no gradient"
    )
    against: dict[str, tuple[str, ...]] = Field(
        {},
        description="extra negatives for the anchors of a field: {image: [text.negative], text: [queue.image]}; other "
        "fields of the batch, or vectors that a memory keeps",
    )
    sums: dict[str, dict[str, float]] = Field(
        {},
        description="makes a side a weighted sum of several fields of each sample, with length 1: {image: {image: 0.9, "
        "text.title: 0.1}} compares picture and title as one vector; a field that a sample lacks is left out",
    )
    objective: ObjectiveConfig = ObjectiveConfig()
    directions: dict[str, float] = Field(
        {},
        description="relative weights of the directions, by the field of the anchors: {image: 1} trains pictures to "
        "find captions, and not captions to find pictures; default: all fields of the batch alike",
    )
    references: dict[str, str] = Field(
        {},
        description="models whose vectors the objective uses, by the objective's name for them: {teacher: NAME} "
        "takes the vectors of the memory NAME, of the kind `teacher` or `momentum`",
    )
    prototypes: str = Field(
        "", description="the memory whose clusters the objectives `prototype` and `same_cluster` use; no others need it"
    )
    projector: ProjectorConfig | None = Field(
        None,
        description="the term compares vectors of its own projector, and not those of the joint space: {layers: 3, "
        "hidden: 4096, dim: 256}",
    )
    weight: float = Field(1.0, gt=0, description="factor on the loss of this term")
    ramp: RampConfig | None = Field(
        None,
        description="changes the weight: {start: 0, during: [0, 0.2]} raises it in the first fifth of the stage",
    )

    @model_validator(mode="before")
    @classmethod
    def _default_name(cls, raw: Any) -> Any:
        between = raw.get("between") if isinstance(raw, Mapping) else None
        if isinstance(between, list | tuple) and not raw.get("name"):
            return {**raw, "name": "-".join(map(str, between))}
        return raw

    @field_validator("name")
    @classmethod
    def _names_a_file(cls, name: str) -> str:
        """Files and tensors of a run have the name of the term in their own."""
        if not re.fullmatch(r"\w[\w .-]*", name):
            raise Misfit("name", f"`{name}` is not a valid name: use letters, digits, spaces and the signs . _ -")
        return name

    @model_validator(mode="after")
    def _fields_are_valid(self) -> "TermConfig":
        if not self.between:
            raise Misfit("between", "names no field. Give one or more, such as [image, text]")
        for name in self.between:
            if self.between.count(name) > 1:
                raise Misfit("between", f"names `{name}` twice. Give different fields, such as [image, text]")
        for anchor, share in self.directions.items():
            if anchor not in self.between:
                raise Misfit(
                    f"directions.{anchor}", f"is not a field of this term; {did_you_mean(anchor, self.between)}"
                )
            if share < 0:
                raise Misfit(f"directions.{anchor}", f"is {share:g}; give 0 or more")
        if self.directions and not sum(self.directions.values()):
            raise Misfit("directions", "are all zero; give one of them a weight above 0")
        for anchor in self.against:
            if self.directions and not self.directions.get(anchor):
                raise Misfit(f"against.{anchor}", "has no effect, because `directions` leaves this direction out")
        for anchor, names in self.against.items():
            if anchor not in self.between:
                raise Misfit(f"against.{anchor}", f"is not a field of this term; {did_you_mean(anchor, self.between)}")
            for name in names:
                if name in self.between:
                    raise Misfit(f"against.{anchor}", f"names `{name}`, which the term already compares; remove it")
                if names.count(name) > 1:
                    raise Misfit(f"against.{anchor}", f"names `{name}` twice; name it once")
        return self

    @model_validator(mode="after")
    def _sums_are_of_a_sample(self) -> "TermConfig":
        if self.sums and self.projector:
            raise Misfit(
                "sums", "are of vectors in the joint space, but `projector` leads out of it; remove one of them"
            )
        for side, weights in self.sums.items():
            if side not in self.between:
                raise Misfit(f"sums.{side}", f"is not a field of this term; {did_you_mean(side, self.between)}")
            if side not in weights or len(weights) < 2:
                raise Misfit(f"sums.{side}", f"must have `{side}` itself and another field, each with its weight")
            for name, weight in weights.items():
                if weight <= 0:
                    raise Misfit(f"sums.{side}.{name}", f"is {weight:g}; give a weight above 0")
                if of_memory(name) or (name != side and name in self.between):
                    raise Misfit(f"sums.{side}.{name}", "is not a further field of the sample; remove it")
        return self

    @model_validator(mode="after")
    def _vectors_of_memories_are_keys(self) -> "TermConfig":
        """They get no gradient, so they can be no anchors."""
        kept = [name for name in self.between if of_memory(name)]
        if kept and len(self.between) != 2:
            raise Misfit("between", f"has `{kept[0]}`, which only a term of two fields may have; remove it")
        if len(kept) == 2:
            raise Misfit("between", "has no field that is trained; name one field of the batch, such as image")
        for key, anchors in (("directions", self.directions), ("against", self.against)):
            for name in kept:
                if name in anchors:
                    raise Misfit(f"{key}.{name}", "is of a memory, whose vectors cannot be anchors; remove it")
        return self

    @model_validator(mode="after")
    def _projects_its_own_fields(self) -> "TermConfig":
        known = tuple(dict.fromkeys(map(field_behind, self.compared)))
        for name in self.projector.fields if self.projector else ():
            if name not in known:
                raise Misfit(
                    "projector.fields", f"has `{name}`, which is not a field of this term; {did_you_mean(name, known)}"
                )
        teachers = self.projector.teachers if self.projector else {}
        if teachers and self.references and teachers.keys() != self.references.keys():
            raise Misfit(
                "projector.teachers",
                f"are {', '.join(teachers)}, but `references` are "
                f"{', '.join(self.references)}; give both the same names",
            )
        if self.projector and self.prototypes:
            raise Misfit("prototypes", "are clusters in the joint space, but `projector` leads out of it; remove one")
        return self

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Omits the default name."""
        written = self._without_idle_fields(handler)
        return {key: value for key, value in written.items() if (key, value) != ("name", "-".join(self.between))}

    @property
    def fields(self) -> tuple[str, ...]:
        """All fields that the term reads, from the batch or from memories."""
        parts = (name for side, weights in self.sums.items() for name in weights if name != side)
        return (*self.between, *parts, *self.further)

    @property
    def further(self) -> tuple[str, ...]:
        """What the term reads beside the fields that it compares."""
        referred = (f"{prefix}.{field_behind(name)}" for prefix in self.references.values() for name in self.between)
        return (*self.negatives, *referred)

    @property
    def negatives(self) -> tuple[str, ...]:
        return tuple(name for names in self.against.values() for name in names)

    @property
    def compared(self) -> tuple[str, ...]:
        """The fields that the term compares, and its extra negatives."""
        return (*self.between, *self.negatives)

    def vectors_of(self, name: str) -> str:
        """The name of the vectors or tokens that the term takes for one of its fields: `image`, if they are in the
        joint space, or `image@NAME`, if they went through the projector NAME."""
        if self.projector is None:
            return name
        chosen = self.projector.fields
        return name if chosen and field_behind(field_of(name)) not in chosen else projected(name, self.projector_name)

    @property
    def projector_name(self) -> str:
        """That of the term whose projector this one uses; empty without a projector."""
        return "" if self.projector is None else self.projector.of or self.name

    @property
    def shares(self) -> dict[str, float]:
        """The weights of the directions, which add up to 1; empty if all are alike."""
        trained = [name for name in self.between if not of_memory(name)]
        if not self.directions and len(trained) == len(self.between):
            return {}
        directions = self.directions or dict.fromkeys(trained, 1.0)
        total = sum(directions.values())
        return {name: directions.get(name, 0.0) / total for name in self.between}

    def weight_at(self, share: float) -> float:
        """The weight when this share of a stage is done."""
        if self.ramp is None:
            return self.weight
        first, last = self.ramp.during
        done = min(max((share - first) / (last - first), 0.0), 1.0)
        return self.ramp.start + done * (self.weight - self.ramp.start)
