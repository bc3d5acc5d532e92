"""Reads open_clip's description of an architecture without importing open_clip, which would import torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tercet.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Architecture:
    """A model of open_clip, with the description from its JSON file."""

    name: str
    description: Mapping[str, Any]

    @property
    def dim(self) -> int:
        dim: int = self.description["embed_dim"]
        return dim

    @property
    def resnet(self) -> bool:
        """Whether the image tower is a ResNet of open_clip. It has BatchNorm, and no gradient checkpointing."""
        return isinstance(self.description["vision_cfg"].get("layers"), list)

    @property
    def timm_image(self) -> bool:
        return "timm_model_name" in self.description["vision_cfg"]

    @property
    def hugging_face_text(self) -> bool:
        return "hf_model_name" in self.description["text_cfg"]


def architecture(name: str) -> Architecture:
    spec = find_spec("open_clip")
    folder = Path(str(spec and spec.origin)).parent / "model_configs"
    known = [path.stem for path in folder.glob("*.json")]
    plain = name.replace("/", "-")
    if plain not in known:
        raise UserError(f"--model {name}: open_clip has no such architecture; {did_you_mean(plain, known)}")
    return Architecture(plain, json.loads((folder / f"{plain}.json").read_text(encoding="utf-8")))
