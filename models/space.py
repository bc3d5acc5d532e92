"""The towers and the terms that join them: what must be known to build a model again. Imports no torch."""

from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from tercet.configs.base import Config, Misfit
from tercet.errors import did_you_mean
from tercet.modality import MODALITIES, modality_of
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
            return raw | {"terms": _terms(pairs, raw.get("objective", {}))}
        if raw.get("terms") and raw.get("objective"):
            raise Misfit("objective", "belongs to `pairs`; where `terms` are written out each has its own")
        return raw

    @model_validator(mode="after")
    def _terms_have_towers(self) -> "SpaceConfig":
        for term in self.terms:
            key = f"pairs.{term.name}" if self.pairs else "terms"
            for modality in map(modality_of, term.between):
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
            raise Misfit("terms", f"has {twice} twice; a temperature and a loss bear that name, so keep one of the two")
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
        unspoken = ("terms",) if self.pairs else ("pairs", "objective")
        return {key: value for key, value in written.items() if key not in unspoken}


def _terms(pairs: dict[str, Any], objective: Any) -> list[dict[str, Any]]:
    """Two fields a pair, joined by a hyphen; a pair of weight zero is not trained."""
    for pair in pairs:
        if pair.count("-") != 1 or not all(pair.split("-")):
            raise Misfit(f"pairs.{pair}", "is not a pair; write two fields and a hyphen, as image-text")
    weights = {pair: weight for pair, weight in pairs.items() if isinstance(weight, int | float) and weight > 0}
    return [{"between": pair.split("-"), "objective": objective, "weight": weights[pair]} for pair in weights]
