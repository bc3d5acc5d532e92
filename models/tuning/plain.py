"""Weights under the names of an untuned model: what goes into a tuned model, and what comes out of it.

A layer with a low-rank update stands around the layer that it was, whose weights bear `base_layer` in their names.
"""

from typing import Any

from torch import Tensor, nn

INNER = ".base_layer"
UPDATED = ("in_proj_weight", "weight")  # of a fused attention, of any other layer


def accept_plain(tuned: nn.Module) -> None:
    """From now on the module loads weights that know nothing of its tuning; what it gained keeps its first values."""
    tuned.register_load_state_dict_pre_hook(_translate)


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


def plain_weights(model: nn.Module) -> dict[str, Tensor]:
    """All weights by the names of a model without low-rank updates: each is merged into the layer that it updates."""
    weights = {name: value.detach() for name, value in model.state_dict().items()}
    for name, module in model.named_modules():
        if hasattr(module, "get_delta_weight"):
            key = next(key for end in UPDATED if (key := f"{name}{INNER}.{end}") in weights)
            weights[key] = weights[key] + module.get_delta_weight("default").detach()
    return {name.replace(INNER, ""): value for name, value in weights.items() if ".lora_" not in name}
