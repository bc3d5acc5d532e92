"""Checkpoints of open_clip_train.

`logs/NAME/checkpoints/epoch_N.pt` has the weights and the optimizer state, but not the architecture. That is in
`logs/NAME/params.txt`, with one argument of the run per line.
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
    """The progress of a run, and its AdamW moments as `optim/exp_avg/NAME`. `fault` says why these cannot be used."""

    epoch: int
    step: int
    batch_size: int | None
    moments: dict[str, Tensor]
    fault: str = ""


def pretrained_bare(path: Path) -> Pretrained:
    """A file of weights. The arguments of its run set the encoders; without them, the recipe must."""
    found = pretrained_file(path, str(path), None)
    return Pretrained(found.source, _towers(arguments_of(path)), found.terms, found.weights)


def arguments_of(path: Path) -> dict[str, Any]:
    """The arguments of open_clip_train, or an empty dict if the checkpoint is not in the folder of its run."""
    file = path.parent.parent / ARGUMENTS
    if path.parent.name != "checkpoints" or not file.is_file():
        return {}
    lines = (line.partition(": ") for line in file.read_text(encoding="utf-8").splitlines())
    return {name: _value(text) for name, colon, text in lines if colon}


def read_optimizer_state(path: Path) -> OptimizerState | None:
    """The optimizer state of a checkpoint, or None for a file that has only weights."""
    held = read_file(path)
    if not {"epoch", "optimizer", "state_dict"} <= held.keys():
        return None
    state = held["optimizer"]["state"]
    step = max((int(one["step"]) for one in state.values() if "step" in one), default=0)
    names = _in_order(held["state_dict"])
    fault = _fault(names, held)
    moments = {} if fault else dict(_moments(names, state))
    return OptimizerState(int(held["epoch"]), step, _batch_size(arguments_of(path)), moments, fault)


def _batch_size(arguments: Mapping[str, Any]) -> int | None:
    """Pairs per step, over all ranks."""
    if "batch_size" not in arguments:
        return None
    return math.prod(int(arguments.get(name, 1)) for name in ("batch_size", "world_size", "accum_freq"))


def _in_order(weights: Mapping[str, Tensor]) -> list[str]:
    """The names of the parameters in the order of the optimizer: first those without weight decay."""
    names = [name for name in weights if not BUFFERS.search(name)]
    return sorted(names, key=lambda name: not _never_decays(name, weights[name]))


def _never_decays(name: str, value: Tensor) -> bool:
    return value.ndim < 2 or any(part in name for part in ("bn", "ln", "bias", "logit_scale"))


def _fault(names: list[str], held: Mapping[str, Any]) -> str:
    """Why the optimizer state does not match the parameters in number or shape; empty if it does."""
    state, weights = held["optimizer"]["state"], held["state_dict"]
    counted = [index for group in held["optimizer"]["param_groups"] for index in group["params"]]
    if len(counted) != len(names):
        return f"it has {len(counted)} parameters, but the model has {len(names)}"
    for index, name in enumerate(names):
        for kind, value in state.get(index, {}).items():
            if kind != "step" and value.shape != weights[name].shape:
                return f"{kind} number {index} does not have the shape of {name}"
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


def _towers(arguments: Mapping[str, Any]) -> dict[str, Any]:
    name = str(arguments.get("model", "")).replace("/", "-")
    if name not in open_clip.list_models():
        return {}
    quick = bool(arguments.get("force_quick_gelu"))
    built = built_as(name, quick) if quick else name
    taken = {key: value for key in TAKEN_IN if (value := arguments.get(f"image_{key}")) is not None}
    model = towers(built, taken)
    if size := arguments.get("force_image_size"):
        model["image"]["size"] = size[0] if isinstance(size, list | tuple) else size
    if length := arguments.get("force_context_length"):
        model["text"].setdefault("options", {})["force_context_length"] = length
    if quick and not has_quick_gelu(built):
        for tower in model.values():
            tower.setdefault("options", {})["force_quick_gelu"] = True
    return model
