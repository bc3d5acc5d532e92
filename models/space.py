"""The config of a joint space: its towers and terms, everything needed to rebuild a model. Imports no torch."""

from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from tercet.configs.base import Config, Misfit
from tercet.errors import did_you_mean
from tercet.modality import MODALITIES, modality_of, modality_of_vectors
from tercet.models.config import ModelConfig
from tercet.models.term_config import ObjectiveConfig, TermConfig


class SpaceConfig(Config):
    """One joint space. `init` supplies what is missing here."""

    init: str | None = Field(
        None,
        description="start from the weights of this MODEL: a run, an exported folder, open_clip:NAME/TAG, "
        "open_clip:NAME/FILE, a file of weights, laion_clap:FILE, or hf:FOLDER; it also sets what `model` leaves out",
    )
    model: ModelConfig = ModelConfig()
    pairs: dict[str, Annotated[float, Field(ge=0)]] = Field(
        {},
        description="shorthand for `terms`: pairs and weights, {image-text: 1.0, audio-text: 1.0}; 0 omits a pair",
    )
    objective: ObjectiveConfig = Field(ObjectiveConfig(), description="the objective of all `pairs`")
    against: dict[str, tuple[str, ...]] = Field(
        {},
        description="extra negatives of `pairs`, by the field whose anchors they repel, such as "
        "{image: [text.negative], text: [queue.image]}",
    )
    terms: tuple[TermConfig, ...] = Field((), description="the terms of the loss; `pairs` is their shorthand")

    @model_validator(mode="before")
    @classmethod
    def _terms_of_pairs(cls, raw: Any) -> Any:
        """Expands `pairs` into `terms`."""
        if not isinstance(raw, dict):
            return raw
        pairs = raw.get("pairs")
        if isinstance(pairs, dict) and pairs:
            if raw.get("terms"):
                raise Misfit("terms", "and `pairs` are both set; `pairs` is a shorthand for `terms`, keep one of them")
            return raw | {"terms": _terms(pairs, raw.get("objective", {}), raw.get("against", {}))}
        for key in ("objective", "against"):
            if raw.get("terms") and raw.get(key):
                raise Misfit(key, f"belongs to `pairs`; with `terms`, set `{key}` in each term")
        return raw

    @model_validator(mode="after")
    def _terms_have_towers(self) -> "SpaceConfig":
        for term in self.terms:
            key = f"pairs.{term.name}" if self.pairs else "terms"
            for modality in map(modality_of_vectors, term.fields):
                if modality not in MODALITIES:
                    raise Misfit(key, f"names the unknown modality `{modality}`; {did_you_mean(modality, MODALITIES)}")
                if modality not in self.model.towers and not self.init:
                    raise Misfit(key, f"needs a tower that the model lacks; give `model.{modality}` an encoder")
        return self

    @model_validator(mode="after")
    def _terms_have_names(self) -> "SpaceConfig":
        names = [term.name for term in self.terms]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise Misfit("terms", f"has two terms named `{twice}`; give one of them another `name`")
        return self

    @model_validator(mode="after")
    def _shared_projectors_exist(self) -> "SpaceConfig":
        owners = [term.name for term in self.terms if term.projector and not term.projector.of]
        for term in self.terms:
            shared = term.projector.of if term.projector else None
            if shared and shared not in owners:
                hint = did_you_mean(shared, owners) if owners else "give a term options, such as {layers: 3, dim: 256}"
                raise Misfit(f"terms.{term.name}.projector", f"is `{shared}`, but no such term has its own; {hint}")
        return self

    @model_validator(mode="after")
    def _is_complete_without_init(self) -> "SpaceConfig":
        if self.init:
            return self
        if not self.terms:
            raise Misfit("pairs", "is missing or all zero; set what to train, such as `pairs: {image-text: 1.0}`")
        for modality, tower in self.model.towers.items():
            if not tower.encoder:
                raise Misfit(
                    f"model.{modality}.encoder", f"is missing; set it, such as `small:{modality}`, or set `init`"
                )
        return self

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Writes `pairs` or `terms`, as the recipe does, and omits empty fields."""
        written = self._without_idle_fields(handler)
        omitted = ("terms",) if self.pairs else ("pairs", "objective", "against")
        return {key: value for key, value in written.items() if key not in omitted}


def _terms(pairs: dict[str, Any], objective: Any, against: Any) -> list[dict[str, Any]]:
    """One term per pair. A pair is two fields with a hyphen between; weight 0 omits it."""
    for pair in pairs:
        if pair.count("-") != 1 or not all(pair.split("-")):
            raise Misfit(f"pairs.{pair}", "is not a pair; write two fields with a hyphen between, such as image-text")
    weights = {pair: weight for pair, weight in pairs.items() if isinstance(weight, int | float) and weight > 0}
    terms = {pair: pair.split("-") for pair in weights}
    for anchor, names in against.items() if isinstance(against, dict) else ():
        partners = {modality_of_vectors(field) for between in terms.values() if anchor in between for field in between}
        for name in names:
            if modality_of_vectors(str(name)) not in partners - {modality_of(anchor)}:
                raise Misfit(
                    f"against.{anchor}", f"has `{name}`, but no pair compares `{anchor}` with that modality; remove it"
                )
    return [
        {"between": between, "objective": objective, "weight": weights[pair], "against": _against(between, against)}
        for pair, between in terms.items()
    ]


def _against(between: list[str], against: Any) -> Any:
    """The extra negatives of one pair: those of the modality that the anchor is compared with."""
    if not isinstance(against, dict):
        return against
    partners = dict(zip(between, map(modality_of_vectors, reversed(between)), strict=True))
    found = {
        anchor: [name for name in against.get(anchor, ()) if modality_of_vectors(str(name)) == partner]
        for anchor, partner in partners.items()
    }
    return {anchor: names for anchor, names in found.items() if names}
