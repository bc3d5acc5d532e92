"""A checkpoint of open_clip_train: a model without its architecture, and the arguments that tell it.

`logs/NAME/checkpoints/epoch_N.pt` holds the weights and the state of the optimizer, and `logs/NAME/params.txt`, one
argument a line, how they came about.
"""

import ast
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
from torch import Tensor

from tercet.models.encoders.open_clip_models import built_as, has_quick_gelu
from tercet.models.interop.open_clip import TAKEN_IN, our_name, pretrained_file, towers
from tercet.models.interop.pretrained import Pretrained
from tercet.models.interop.weights_file import bare, read_file

ARGUMENTS = "params.txt"
BUFFERS = re.compile(r"(running_mean|running_var|num_batches_tracked|attn_mask|position_ids)$")


@dataclass(frozen=True)
class OptimizerState:
    """How far a run is, and its AdamW moments as `optim/exp_avg/NAME`, or why they cannot be used."""

    epoch: int
    step: int
    batch_size: int | None
    moments: dict[str, Tensor]
    fault: str = ""


def pretrained_bare(path: Path) -> Pretrained:
    """A file of weights alone. Where its run tells the architecture, that is it; else a recipe must give the towers."""
    found = pretrained_file(path, str(path), None)
    return Pretrained(found.source, _towers(arguments_of(path)), found.terms, found.weights)


def arguments_of(path: Path) -> dict[str, Any]:
    """What open_clip_train was called with, where the checkpoint lies as it left it; else nothing."""
    told = path.parent.parent / ARGUMENTS
    if path.parent.name != "checkpoints" or not told.is_file():
        return {}
    lines = (line.partition(": ") for line in told.read_text(encoding="utf-8").splitlines())
    return {name: _value(text) for name, colon, text in lines if colon}


def standing_of(path: Path) -> OptimizerState | None:
    """Of a checkpoint; a file of weights alone stands nowhere."""
    held = read_file(path)
    if not {"epoch", "optimizer", "state_dict"} <= held.keys():
        return None
    state = held["optimizer"]["state"]
    step = max((int(one["step"]) for one in state.values() if "step" in one), default=0)
    names = _in_order(held["state_dict"])
    fault = _fault(names, held)
    moments = {} if fault else dict(_moments(names, state))
    return OptimizerState(int(held["epoch"]), step, _batch_size(arguments_of(path)), moments, fault)


def _batch_size(told: Mapping[str, Any]) -> int | None:
    """Pairs a step, over all ranks."""
    if "batch_size" not in told:
        return None
    return math.prod(int(told.get(name, 1)) for name in ("batch_size", "world_size", "accum_freq"))


def _in_order(weights: Mapping[str, Tensor]) -> list[str]:
    """Parameters as their optimizer counts them: those that never decay, then the rest."""
    names = [name for name in weights if not BUFFERS.search(name)]
    return sorted(names, key=lambda name: not _never_decays(name, weights[name]))


def _never_decays(name: str, value: Tensor) -> bool:
    return value.ndim < 2 or any(part in name for part in ("bn", "ln", "bias", "logit_scale"))


def _fault(names: list[str], held: Mapping[str, Any]) -> str:
    """Whether the counted states are those of the named parameters: as many, and each of its parameter's shape."""
    state, weights = held["optimizer"]["state"], held["state_dict"]
    counted = [index for group in held["optimizer"]["param_groups"] for index in group["params"]]
    if len(counted) != len(names):
        return f"it is of {len(counted)} parameters, and the model has {len(names)}"
    for index, name in enumerate(names):
        for kind, value in state.get(index, {}).items():
            if kind != "step" and value.shape != weights[name].shape:
                return f"{kind} number {index} has not the shape of {name}"
    return ""


def _moments(names: list[str], state: Mapping[int, Mapping[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    for index, name in enumerate(names):
        ours = our_name(bare(name))
        for kind, value in state.get(index, {}).items():
            if ours is not None and kind != "step":
                yield f"optim/{kind}/{ours}", value.reshape(-1) if value.ndim == 0 else value


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _towers(told: Mapping[str, Any]) -> dict[str, Any]:
    name = str(told.get("model", "")).replace("/", "-")
    if name not in open_clip.list_models():
        return {}
    quick = bool(told.get("force_quick_gelu"))
    built = built_as(name, quick) if quick else name
    taken = {key: value for key in TAKEN_IN if (value := told.get(f"image_{key}")) is not None}
    model = towers(built, taken)
    if size := told.get("force_image_size"):
        model["image"]["size"] = size[0] if isinstance(size, list | tuple) else size
    if length := told.get("force_context_length"):
        model["text"].setdefault("options", {})["force_context_length"] = length
    if quick and not has_quick_gelu(built):
        for tower in model.values():
            tower.setdefault("options", {})["force_quick_gelu"] = True
    return model
