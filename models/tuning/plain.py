"""Converts weights between an untuned and a tuned model: loads plain weights, and merges low-rank updates into them.

A layer with a low-rank update wraps the original layer, whose weights get `base_layer` in their names.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from tercet.modality import ALPHA
from tercet.models.config import LoraConfig, ModelConfig

INNER = ".base_layer"
UPDATED = ("in_proj_weight", "weight")  # of a fused attention, of any other layer
DOWN, UP = "lora_A.default.weight", "lora_B.default.weight"


def accept_plain(tuned: nn.Module) -> None:
    """Makes the module accept weights of an untuned model. Parameters that tuning added keep their values."""
    tuned.register_load_state_dict_pre_hook(_translate)  # type: ignore[no-untyped-call]


def _translate(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    for name, value in module.state_dict().items():
        plain = prefix + name.replace(INNER, "")
        if prefix + name not in state and plain in state:
            state[prefix + name] = state.pop(plain)
        elif gained(name):
            state.setdefault(prefix + name, value)


def gained(name: str) -> bool:
    """Whether tuning, or a mask of pictures, added this parameter."""
    return any(part.startswith("lora_") or part in ("adapters", ALPHA) for part in name.split("."))


def untuned(config: ModelConfig) -> ModelConfig:
    """The config of the model that merged weights fit."""
    towers = {modality: tower.model_copy(update={"lora": None}) for modality, tower in config.towers.items()}
    return config.model_copy(update=towers)


def merged(weights: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """The weights of a model, with all low-rank updates added to their layers."""
    plain = dict(weights)
    for modality, tower in config.towers.items():
        if tower.lora:
            start = f"towers.{modality}."
            own = {name: plain.pop(name) for name in weights if name.startswith(start)}
            plain |= merge(own, tower.lora)
    return plain


def merge(weights: Mapping[str, Tensor], config: LoraConfig) -> dict[str, Tensor]:
    """The merged weights of one tower."""
    sums = dict(weights)
    for name in weights:
        if name.endswith(DOWN):
            layer = name.removesuffix(f".{DOWN}")
            key = next(key for end in UPDATED if (key := f"{layer}{INNER}.{end}") in weights)
            sums[key] = weights[key] + config.alpha / config.rank * weights[f"{layer}.{UP}"] @ weights[name]
    return {name.replace(INNER, ""): value for name, value in sums.items() if ".lora_" not in name}
