"""A checkpoint of open_clip_train: a model without its architecture, and the arguments that tell it.

`logs/NAME/checkpoints/epoch_N.pt` holds the weights and the state of the optimizer, and `logs/NAME/params.txt`, one
argument a line, how they came about.
"""

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip

from tercet.models.interop.open_clip import TAKEN_IN, built_as, pretrained_file, towers
from tercet.models.interop.pretrained import Pretrained

ARGUMENTS = "params.txt"


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
    if quick and not open_clip.get_model_config(built).get("quick_gelu"):
        for tower in model.values():
            tower.setdefault("options", {})["force_quick_gelu"] = True
    return model
