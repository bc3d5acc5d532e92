"""Weights that others trained, under our names, and how a model takes them over.

What is taken must fit to the last tensor: a tower begins whole or not at all. Towers that the weights know nothing of
begin as the recipe says.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tercet.errors import UserError
from tercet.models.head import module_name
from tercet.models.multimodal import Multimodal
from tercet.models.space import SpaceConfig
from tercet.models.tuning.plain import INNER, gained
from tercet.models.tuning.positions import stretch

TEMPERATURES = "head.temperatures."
OF_TRAINING = ("unlocked", "lr_scale", "layer_decay", "lora", "grad_checkpointing")
ROUNDING = 1e-6  # of a logarithm: weights at a bound, read back as fp32

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Pretrained:
    """A model by what was asked for, what a recipe would say of it under `model`, and its weights.

    `terms` is what the recipe would say beside it: `pairs` and `objective`, or `terms`. `weights()` reads them, by the
    names of `Multimodal`.
    """

    source: str
    model: dict[str, Any]
    terms: dict[str, Any]
    weights: Callable[[], dict[str, Tensor]]


def described(source: str, config: SpaceConfig, weights: Callable[[], dict[str, Tensor]]) -> Pretrained:
    """A model of our own by its config, without what matters to its training only, such as extra negatives."""
    written = config.model_dump(mode="json")
    towers = {
        modality: {key: value for key, value in written["model"][modality].items() if key not in OF_TRAINING}
        for modality in config.model.towers
    }
    terms: dict[str, Any] = {key: written[key] for key in ("pairs", "objective", "terms") if key in written}
    for term in terms.get("terms", ()):
        term.pop("against", None)
    return Pretrained(source, written["model"] | towers, terms, weights)


def adopt(model: Multimodal, weights: Weights, source: str) -> None:
    """Every tower of which the weights know something, with its projection and the temperatures of its terms."""
    own = model.state_dict()
    taken: dict[str, Tensor] = {}
    for modality in model.towers:
        taken |= _tower(modality, own, weights, source)
    taken = {name: _fitting(name, value, own[name], source) for name, value in taken.items()}
    for term in model.terms:
        taken |= _temperature(model, term, weights, source)
    model.load_state_dict(taken, strict=False)


def _tower(modality: str, own: Weights, weights: Weights, source: str) -> dict[str, Tensor]:
    """By the names that a tuned tower gives its parameters; what came with the tuning may be new."""
    parts = (f"towers.{modality}.", f"head.projections.{modality}.", f"head.adapters.{modality}.")
    tuned = {name.replace(INNER, ""): name for name in own}
    given = {tuned.get(name, name): value for name, value in weights.items() if name.startswith(parts)}
    if not any(name.startswith(parts[0]) for name in given):
        return {}
    wanted = {name for name in own if name.startswith(parts) and (name in given or not gained(name))}
    for name in sorted(given.keys() ^ wanted):
        told = "it lacks" if name in wanted else "beside others it has"
        raise UserError(f"{source}: {told} `{name}`: it is of another architecture than model.{modality}")
    return {name: value.reshape(1) if own[name].shape == (1,) else value for name, value in given.items()}


def _fitting(name: str, theirs: Tensor, ours: Tensor, source: str) -> Tensor:
    """Only the positions of a picture's patches may be of another number: they are stretched."""
    if theirs.shape == ours.shape:
        return theirs
    if re.search(r"^towers\.image\..*pos.*emb", name) and theirs.shape[-1] == ours.shape[-1]:
        stretched = stretch(theirs, ours.shape[-2])
        if stretched is not None:
            return stretched
    raise UserError(f"{source}: {_misfit(name, theirs, ours)}")


def _misfit(name: str, theirs: Tensor, ours: Tensor) -> str:
    """What two shapes of one tensor come from, and the mend."""
    modality = name.split(".")[1] if name.startswith("towers.") else "head"
    if name.startswith("head."):
        return f"its joint space has {len(theirs)} dimensions, and model.dim is {len(ours)}; leave out model.dim"
    if modality == "text" and re.search("pos.*emb", name):
        return (
            f"its context length is {len(theirs)}, and that of the text tower {len(ours)}; "
            "leave out what sets another in model.text.options"
        )
    if modality == "text" and "embedding" in name:
        return (
            f"its tokenizer knows {len(theirs)} tokens, and that of the text tower {len(ours)}; "
            "name the text encoder that the weights were trained with"
        )
    shapes = f"`{name}` is {list(theirs.shape)} and here {list(ours.shape)}"
    return f"{shapes}: it is of another architecture than model.{modality}"


def _temperature(model: Multimodal, term: str, weights: Weights, source: str) -> dict[str, Tensor]:
    """Scale and bias from the term of the same name, or else from one of the same modalities."""
    origin = origin_of(term, weights)
    if origin is None:
        return {}
    module = model.head.temperature_of(term)
    taken = {"log_scale": weights[f"{TEMPERATURES}{origin}.log_scale"].float().reshape(1)}
    low, high = module.bounds
    if not low - ROUNDING <= float(taken["log_scale"]) <= high + ROUNDING:
        raise UserError(
            f"{source}: its inverse temperature is {taken['log_scale'].exp().item():.6g}, outside of "
            f"objective.bounds [{math.exp(low):g}, {math.exp(high):g}]; set objective.bounds so that they hold it"
        )
    bias = weights.get(f"{TEMPERATURES}{origin}.bias")
    if bias is not None and module.bias is not None:
        taken["bias"] = bias.float().reshape(1)
    return {f"{TEMPERATURES}{module_name(term)}.{name}": value for name, value in taken.items()}


def origin_of(term: str, weights: Weights) -> str | None:
    """The term, by the name of its module, whose temperature a term takes over."""
    own = module_name(term)
    named = [name[len(TEMPERATURES) :].rpartition(".")[0] for name in weights if name.startswith(TEMPERATURES)]
    alike = [other for other in named if _modalities(other) == _modalities(own)]
    return own if own in named else next(iter(alike), None)


def _modalities(term: str) -> list[str]:
    """Of the name of a term's module, as `image_crop1-text`."""
    return sorted(field.partition("_")[0] for field in term.split("-"))
