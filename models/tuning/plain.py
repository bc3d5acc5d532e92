"""Weights under the names of an untuned model: what goes into a tuned model, and what comes out of it.

A layer with a low-rank update stands around the layer that it was, whose weights bear `base_layer` in their names.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from tercet.models.config import LoraConfig, ModelConfig

INNER = ".base_layer"
UPDATED = ("in_proj_weight", "weight")  # of a fused attention, of any other layer
DOWN, UP = "lora_A.default.weight", "lora_B.default.weight"


def accept_plain(tuned: nn.Module) -> None:
    """From now on the module loads weights that know nothing of its tuning; what it gained keeps its first values."""
    tuned.register_load_state_dict_pre_hook(_translate)  # type: ignore[no-untyped-call]


def _translate(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    for name, value in module.state_dict().items():
        plain = prefix + name.replace(INNER, "")
        if prefix + name not in state and plain in state:
            state[prefix + name] = state.pop(plain)
        elif gained(name):
            state.setdefault(prefix + name, value)


def gained(name: str) -> bool:
    """Whether a parameter came with the tuning."""
    return any(part.startswith("lora_") or part == "adapters" for part in name.split("."))


def untuned(config: ModelConfig) -> ModelConfig:
    """The model that merged weights fit."""
    towers = {modality: tower.model_copy(update={"lora": None}) for modality, tower in config.towers.items()}
    return config.model_copy(update=towers)


def merged(weights: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """The weights of a model with every low-rank update in the layer that it updates."""
    plain = dict(weights)
    for modality, tower in config.towers.items():
        if tower.lora:
            start = f"towers.{modality}."
            own = {name: plain.pop(name) for name in weights if name.startswith(start)}
            plain |= merge(own, tower.lora)
    return plain


def merge(weights: Mapping[str, Tensor], config: LoraConfig) -> dict[str, Tensor]:
    """One tower's."""
    sums = dict(weights)
    for name in weights:
        if name.endswith(DOWN):
            layer = name.removesuffix(f".{DOWN}")
            key = next(key for end in UPDATED if (key := f"{layer}{INNER}.{end}") in weights)
            sums[key] = weights[key] + config.alpha / config.rank * weights[f"{layer}.{UP}"] @ weights[name]
    return {name.replace(INNER, ""): value for name, value in sums.items() if ".lora_" not in name}
