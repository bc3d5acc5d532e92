"""The towers and the terms that join them: what must be known to build a model again. Imports no torch."""

from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from tercet.configs.base import Config, Misfit
from tercet.errors import did_you_mean
from tercet.modality import MODALITIES, modality_of, modality_of_vectors
from tercet.models.config import ModelConfig, ObjectiveConfig, TermConfig


class SpaceConfig(Config):
    """One joint space. Whatever is left out of it must be what `init` has."""

    init: str | None = Field(
        None,
        description="MODEL whose weights a new run begins from: a run, an exported folder, open_clip:NAME/TAG, "
        "open_clip:NAME/FILE, a file, or hf:FOLDER; what the recipe leaves out of the model is as it has it",
    )
    model: ModelConfig = ModelConfig()
    pairs: dict[str, Annotated[float, Field(ge=0)]] = Field(
        {}, description="shorthand for terms: {image-text: 1.0, audio-text: 1.0}; 0 leaves a pair out"
    )
    objective: ObjectiveConfig = Field(ObjectiveConfig(), description="what the pairs are trained by")
    against: dict[str, tuple[str, ...]] = Field(
        {},
        description="extra negatives of the pairs, by the field whose anchors they are for: "
        "{image: [text.negative], text: [queue.image]}",
    )
    terms: tuple[TermConfig, ...] = Field((), description="what is trained, written out; `pairs` fills it")

    @model_validator(mode="before")
    @classmethod
    def _terms_of_pairs(cls, raw: Any) -> Any:
        """Shorthand is written out."""
        if not isinstance(raw, dict):
            return raw
        pairs = raw.get("pairs")
        if isinstance(pairs, dict) and pairs:
            if raw.get("terms"):
                raise Misfit("terms", "and `pairs` are both given; `pairs` is the shorthand, keep one of them")
            return raw | {"terms": _terms(pairs, raw.get("objective", {}), raw.get("against", {}))}
        for key in ("objective", "against"):
            if raw.get("terms") and raw.get(key):
                raise Misfit(key, "belongs to `pairs`; where `terms` are written out, each term has its own")
        return raw

    @model_validator(mode="after")
    def _terms_have_towers(self) -> "SpaceConfig":
        for term in self.terms:
            key = f"pairs.{term.name}" if self.pairs else "terms"
            for modality in (*map(modality_of, term.between), *map(modality_of_vectors, term.fields[2:])):
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
    def _says_all_without_init(self) -> "SpaceConfig":
        if self.init:
            return self
        if not self.terms:
            raise Misfit("pairs", "is missing or all zero; say what is trained, as `pairs: {image-text: 1.0}`")
        for modality, tower in self.model.towers.items():
            if not tower.encoder:
                raise Misfit(f"model.{modality}.encoder", f"is missing; give it, as `small:{modality}`, or an `init`")
        return self

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Pairs or terms, whichever the recipe gave, and nothing that is nothing by default."""
        written = self._without_idle_fields(handler)
        unspoken = ("terms",) if self.pairs else ("pairs", "objective", "against")
        return {key: value for key, value in written.items() if key not in unspoken}


def _terms(pairs: dict[str, Any], objective: Any, against: Any) -> list[dict[str, Any]]:
    """Two fields a pair, joined by a hyphen; a pair of weight zero is not trained."""
    for pair in pairs:
        if pair.count("-") != 1 or not all(pair.split("-")):
            raise Misfit(f"pairs.{pair}", "is not a pair; write two fields and a hyphen, as image-text")
    weights = {pair: weight for pair, weight in pairs.items() if isinstance(weight, int | float) and weight > 0}
    terms = {pair: pair.split("-") for pair in weights}
    for anchor, names in against.items() if isinstance(against, dict) else ():
        partners = {modality_of(field) for between in terms.values() if anchor in between for field in between}
        for name in names:
            if modality_of_vectors(str(name)) not in partners - {modality_of(anchor)}:
                raise Misfit(f"against.{anchor}", f"has `{name}`, and no pair compares `{anchor}` with that modality")
    return [
        {"between": between, "objective": objective, "weight": weights[pair], "against": _against(between, against)}
        for pair, between in terms.items()
    ]


def _against(between: list[str], against: Any) -> Any:
    """Of all extra negatives those that the pair's own two towers embed."""
    if not isinstance(against, dict):
        return against
    partners = dict(zip(between, map(modality_of, reversed(between)), strict=True))
    found = {
        anchor: [name for name in against.get(anchor, ()) if modality_of_vectors(str(name)) == partner]
        for anchor, partner in partners.items()
    }
    return {anchor: names for anchor, names in found.items() if names}
