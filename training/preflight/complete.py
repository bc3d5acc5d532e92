"""Completes a recipe from its `init`: the towers, the joint space, the terms and the objective that it does not set."""

from typing import Any

from tercet.configs.base import build
from tercet.errors import UserError
from tercet.modality import modality_of, modality_of_vectors
from tercet.models.interop.pretrained import Pretrained, described, name_of
from tercet.training.checkpoints.commit import committed
from tercet.training.checkpoints.reader import CHECKPOINTS, CONFIG
from tercet.training.config import RunConfig
from tercet.training.folder import folder_of
from tercet.training.layering import RECIPE
from tercet.training.pretrained import pretrained
from tercet.training.recipe import load_recipe


def inherited(config: RunConfig) -> RunConfig:
    """The complete config. A run that has a checkpoint reads the config in its folder, and no longer needs `init`."""
    if config.init is None:
        return config
    folder = folder_of(config)
    if not committed(folder / CHECKPOINTS):
        return complete(config, pretrained(config.init))
    return complete(config, described(str(folder), load_recipe(str(folder / CONFIG)), dict))


def complete(config: RunConfig, found: Pretrained) -> RunConfig:
    written = config.model_dump(mode="json", exclude={"init", "model", "pairs", "objective", "terms"})
    terms = _terms(config, found)
    whole = build(
        RunConfig, {**written, **terms, "model": _model(config, found, terms)}, lambda key: f"init {config.init}"
    )
    return whole.model_copy(update={"init": config.init})


def _terms(config: RunConfig, found: Pretrained) -> dict[str, Any]:
    """The pairs or terms, the objective and the extra negatives: the recipe's own, or else those of `init`."""
    given: dict[str, Any] = {}
    if config.pairs:
        given["pairs"] = dict(config.pairs)
    elif config.terms:
        given["terms"] = [term.model_dump(mode="json") for term in config.terms]
    if "objective" in config.model_fields_set:
        given["objective"] = config.objective.model_dump(mode="json", exclude_unset=True)
    if config.against:
        given["against"] = {anchor: list(names) for anchor, names in config.against.items()}
    theirs = dict(found.terms)
    if "terms" in theirs:
        theirs["terms"] = _comparing(theirs["terms"])
    below = {key: value for key, value in theirs.items() if key == "objective" or key not in given}
    return RECIPE.lay(below, given)


def _comparing(terms: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The terms that still compare fields. Without projectors that belong to the other terms."""
    kept = [term for term in terms if len(term["between"]) > 1]
    names = [name_of(term) for term in kept]
    lost = [(term.get("projector") or {}).get("of") not in (None, *names) for term in kept]
    return [term | {"projector": None} if gone else term for term, gone in zip(kept, lost, strict=True)]


def _model(config: RunConfig, found: Pretrained, terms: dict[str, Any]) -> dict[str, Any]:
    """The joint space, the towers that the recipe names, and those that its terms use."""
    given = config.model.model_dump(mode="json", exclude_unset=True)
    used = {modality_of(field) for pair in terms.get("pairs", {}) for field in pair.split("-")}
    used |= {modality_of_vectors(field) for term in terms.get("terms", ()) for field in term["between"]}
    below = {key: value for key, value in found.model.items() if key == "dim" or key in used or key in given}
    for modality, tower in config.model.towers.items():
        if not tower.encoder and not found.model.get(modality):
            raise UserError(_lacking(config, found, modality))
        initial = below.get(modality, {}).get("encoder", tower.encoder)
        if tower.encoder and tower.encoder != initial:
            raise UserError(
                f"model.{modality}.encoder is `{tower.encoder}`, but init {config.init} has `{initial}`; "
                "remove the encoder from the recipe, or train without init"
            )
    return RECIPE.lay(below, given)


def _lacking(config: RunConfig, found: Pretrained, modality: str) -> str:
    if not found.model:
        return (
            f"init {config.init} holds weights without their architecture. "
            f"Name the architecture: init=open_clip:NAME/{config.init}"
        )
    others = ", ".join(name for name in found.model if name != "dim")
    return (
        f"init {config.init} has no {modality} tower, only {others}; give model.{modality} an encoder, or set "
        f"model.{modality}=null and train other pairs"
    )
