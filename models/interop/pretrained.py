"""Pretrained weights under the names of `Multimodal`, and how a model loads them.

A tower loads completely or not at all: every tensor must fit. Towers that are not among the weights start as the recipe
says.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tercet.errors import UserError
from tercet.modality import field_behind
from tercet.models.head import module_name
from tercet.models.multimodal import Multimodal
from tercet.models.space import SpaceConfig
from tercet.models.tuning.plain import INNER, gained
from tercet.models.tuning.positions import TABLE

TEMPERATURES = "head.temperatures."
PROJECTORS = "head.projectors."
OF_TERMS = (TEMPERATURES, PROJECTORS)
OF_TRAINING = (
    "unlocked",
    "cached",
    "lr_scale",
    "layer_decay",
    "lora",
    "grad_checkpointing",
    "patch_dropout",
    "dropout",
)
ROUNDING = 1e-6  # tolerance of a logarithm at its bound, because weights are fp32

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Pretrained:
    """A pretrained model: its name or path, its settings under `model` of a recipe, and its weights.

    `terms` has further settings of a recipe: `pairs` and `objective`, or `terms`. `weights()` reads the weights, under
    the names of `Multimodal`.
    """

    source: str
    model: dict[str, Any]
    terms: dict[str, Any]
    weights: Callable[[], dict[str, Tensor]]


def described(source: str, config: SpaceConfig, weights: Callable[[], dict[str, Tensor]]) -> Pretrained:
    """A model that tercet trained. Settings that matter only in training, such as extra negatives, are removed."""
    written = config.model_dump(mode="json")
    towers = {
        modality: {key: value for key, value in written["model"][modality].items() if key not in OF_TRAINING}
        for modality in config.model.towers
    }
    terms: dict[str, Any] = {key: written[key] for key in ("pairs", "objective", "terms") if key in written}
    if "terms" in terms:
        terms["terms"] = without_memories(terms["terms"])
    return Pretrained(source, written["model"] | towers, terms, weights)


def without_memories(terms: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Terms without what memories offer: they compare the batch's own fields, of which one may have only one.

    Such a term keeps its name, and so do those that would have the same name.
    """
    kept = [_of_batch(term) for term in terms]
    names = [name_of(term) for term in kept]
    return [
        {**new, "name": name_of(old)} if names.count(name) > 1 or len(new["between"]) == 1 else new
        for old, new, name in zip(terms, kept, names, strict=True)
    ]


def name_of(term: Mapping[str, Any]) -> str:
    return term.get("name") or "-".join(term["between"])


def _of_batch(term: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in term.items() if key not in ("against", "references", "prototypes")}
    between = list(dict.fromkeys(map(field_behind, term["between"])))
    chosen = kept.get("projector", {}).get("fields")
    if chosen:
        fields = [name for name in chosen if name in between]
        kept["projector"] = {**kept["projector"], "fields": fields} if fields else None
    return kept | {"between": between}


def load_towers(model: Multimodal, weights: Weights, source: str) -> None:
    """Loads all towers that are among the weights, their projections, and the temperatures and projectors of terms."""
    own = model.state_dict()
    taken: dict[str, Tensor] = {}
    for modality in model.towers:
        taken |= _tower(modality, own, weights, source)
    taken = {name: _fitting(model, name, value, own[name], source) for name, value in taken.items()}
    for term in model.terms:
        taken |= _temperature(model, term, weights, source)
    taken |= _projectors(own, weights, source)
    model.load_state_dict(taken, strict=False)


def _tower(modality: str, own: Weights, weights: Weights, source: str) -> dict[str, Tensor]:
    """The weights of a tower under its parameter names. Parameters that tuning added may be missing."""
    parts = (f"towers.{modality}.", f"head.projections.{modality}.", f"head.adapters.{modality}.")
    tuned = {name.replace(INNER, ""): name for name in own}
    given = {tuned.get(name, name): value for name, value in weights.items() if name.startswith(parts)}
    if not any(name.startswith(parts[0]) for name in given):
        return {}
    wanted = {name for name in own if name.startswith(parts) and (name in given or not gained(name))}
    if _starts_an_mlp(own, given, parts[1]):
        given = {name: value for name, value in given.items() if not name.startswith(parts[1])}
        wanted = {name for name in wanted if not name.startswith(parts[1])}
    for name in sorted(given.keys() ^ wanted):
        fault = "it lacks" if name in wanted else "it has the unknown weight"
        raise UserError(f"{source}: {fault} `{name}`; it is of another architecture than model.{modality}")
    return {name: value.reshape(1) if own[name].shape == (1,) else value for name, value in given.items()}


def _starts_an_mlp(own: Weights, given: Weights, projection: str) -> bool:
    """Whether the recipe projects by an MLP, and the pretrained model does not."""
    first = f"{projection}0."
    return any(name.startswith(first) for name in own) and not any(name.startswith(first) for name in given)


def _fitting(model: Multimodal, name: str, theirs: Tensor, ours: Tensor, source: str) -> Tensor:
    """The tensor itself, or position embeddings for another number of patches or tokens."""
    found = model.fitted(name, theirs, ours.shape)
    if found.shape == ours.shape:
        return found
    raise UserError(f"{source}: {_misfit(name, theirs, ours)}")


def _misfit(name: str, theirs: Tensor, ours: Tensor) -> str:
    """Why the shapes of a tensor differ, and how to fix it."""
    modality = name.split(".")[1] if name.startswith("towers.") else "head"
    if name.startswith("head."):
        return f"its joint space has {len(theirs)} dimensions, but model.dim is {len(ours)}; remove model.dim"
    if modality == "text" and TABLE.search(name):
        return (
            f"its context length is {len(theirs)}, but that of the text tower is {len(ours)}; remove the length from "
            f"model.text.options, or set model.text.context_length={len(ours)}, with model.text.keep_positions below "
            f"{len(theirs) - 1}, to cut or stretch the positions"
        )
    if modality == "text" and "embedding" in name:
        return (
            f"its tokenizer has {len(theirs)} tokens, but that of the text tower has {len(ours)}; "
            "use the text encoder that the weights were trained with"
        )
    shapes = f"`{name}` has shape {list(theirs.shape)}, but the model needs {list(ours.shape)}"
    return f"{shapes}; it is of another architecture than model.{modality}"


def _projectors(own: Weights, weights: Weights, source: str) -> dict[str, Tensor]:
    """Those of terms of the same name."""
    shared = {name: value for name, value in weights.items() if name.startswith(PROJECTORS) and name in own}
    for name, value in shared.items():
        if value.shape != own[name].shape:
            raise UserError(
                f"{source}: `{name}` has shape {list(value.shape)}, but the model needs {list(own[name].shape)}; give "
                "the term with the projector another name, or its projector the same size"
            )
    return shared


def _temperature(model: Multimodal, term: str, weights: Weights, source: str) -> dict[str, Tensor]:
    """Scale and bias from the term of the same name, or from one of the same modalities."""
    origin = origin_of(term, weights)
    if origin is None:
        return {}
    module = model.head.temperature_of(term)
    taken = {"log_scale": weights[f"{TEMPERATURES}{origin}.log_scale"].float().reshape(1)}
    low, high = module.bounds
    if not low - ROUNDING <= float(taken["log_scale"]) <= high + ROUNDING:
        raise UserError(
            f"{source}: its inverse temperature is {taken['log_scale'].exp().item():.6g}, outside of "
            f"objective.bounds [{math.exp(low):g}, {math.exp(high):g}]; widen objective.bounds"
        )
    bias = weights.get(f"{TEMPERATURES}{origin}.bias")
    if bias is not None and module.bias is not None:
        taken["bias"] = bias.float().reshape(1)
    return {f"{TEMPERATURES}{module_name(term)}.{name}": value for name, value in taken.items()}


def origin_of(term: str, weights: Weights) -> str | None:
    """The module name of the pretrained term whose temperature `term` gets."""
    own = module_name(term)
    named = [name[len(TEMPERATURES) :].rpartition(".")[0] for name in weights if name.startswith(TEMPERATURES)]
    candidates = [other for other in named if _modalities(other) == _modalities(own)]
    return own if own in named else next(iter(candidates), None)


def _modalities(term: str) -> list[str]:
    """The modalities in the module name of a term, such as `image_crop1-text`."""
    return sorted(field.partition("_")[0] for field in term.split("-"))
