"""The config of a term of the loss. Imports no torch."""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from tercet.configs.base import Component, Config, Misfit
from tercet.errors import did_you_mean
from tercet.modality import field_behind, field_of, of_memory, projected
from tercet.models.projector_config import ProjectorConfig


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
