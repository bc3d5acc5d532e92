"""A recipe takes from `init` what it does not say itself: towers, joint space, terms and their objective."""

from pathlib import Path
from typing import Any

from tercet.configs.base import build
from tercet.errors import UserError
from tercet.modality import modality_of
from tercet.models.interop.pretrained import Pretrained, described
from tercet.training.checkpoint_reader import CHECKPOINTS, CONFIG
from tercet.training.commit import committed
from tercet.training.config import RunConfig
from tercet.training.folder import folder_of
from tercet.training.layering import RECIPE
from tercet.training.pretrained import pretrained
from tercet.training.recipe import load_recipe


def inherited(config: RunConfig) -> RunConfig:
    """The run in full. Once it has a checkpoint, it is as it began, and `init` need not be there any more."""
    if config.init is None:
        return config
    folder = folder_of(config)
    return complete(config, _begun(folder) if committed(folder / CHECKPOINTS) else pretrained(config.init))


def complete(config: RunConfig, found: Pretrained) -> RunConfig:
    written = config.model_dump(mode="json", exclude={"init", "model", "pairs", "objective", "terms"})
    terms = _terms(config, found)
    whole = build(
        RunConfig, {**written, **terms, "model": _model(config, found, terms)}, lambda key: f"init {config.init}"
    )
    return whole.model_copy(update={"init": config.init})


def _begun(folder: Path) -> Pretrained:
    return described(str(folder), load_recipe(str(folder / CONFIG)), dict)


def _terms(config: RunConfig, found: Pretrained) -> dict[str, Any]:
    """An objective that is not said is that of `init`; so are the pairs."""
    said: dict[str, Any] = {}
    if config.pairs:
        said["pairs"] = dict(config.pairs)
    elif config.terms:
        said["terms"] = [term.model_dump(mode="json") for term in config.terms]
    if "objective" in config.model_fields_set:
        said["objective"] = config.objective.model_dump(mode="json", exclude_unset=True)
    if config.against:
        said["against"] = {anchor: list(names) for anchor, names in config.against.items()}
    below = {key: value for key, value in found.terms.items() if key == "objective" or key not in said}
    return RECIPE.lay(below, said)


def _model(config: RunConfig, found: Pretrained, terms: dict[str, Any]) -> dict[str, Any]:
    """The towers that the recipe names and those that its terms draw on."""
    said = config.model.model_dump(mode="json", exclude_unset=True)
    drawn = {modality_of(field) for pair in terms.get("pairs", {}) for field in pair.split("-")}
    drawn |= {modality_of(field) for term in terms.get("terms", ()) for field in term["between"]}
    given = {key: value for key, value in found.model.items() if key == "dim" or key in drawn or key in said}
    for modality, tower in config.model.towers.items():
        if not tower.encoder and not found.model.get(modality):
            raise UserError(_lacking(config, found, modality))
        theirs = given.get(modality, {}).get("encoder", tower.encoder)
        if tower.encoder and tower.encoder != theirs:
            raise UserError(
                f"model.{modality}.encoder is `{tower.encoder}`, but init {config.init} has `{theirs}`; "
                "leave the encoder out, or begin without init"
            )
    return RECIPE.lay(given, said)


def _lacking(config: RunConfig, found: Pretrained, modality: str) -> str:
    if not found.model:
        return f"init {config.init} does not tell of what architecture it is; write init=open_clip:NAME/{config.init}"
    others = ", ".join(name for name in found.model if name != "dim")
    return (
        f"init {config.init} has no {modality} tower, only {others}; give model.{modality} an encoder, or set "
        f"model.{modality}=null and train other pairs"
    )
