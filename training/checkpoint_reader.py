"""What a run has left on disk, read by name: how far it came, and its tensors. Needs no engine."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from safetensors import safe_open
from torch import Tensor, nn

from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.interop.pretrained import TEMPERATURES
from tercet.models.multimodal import Multimodal
from tercet.training.commit import Found, newest
from tercet.training.progress import Progress

CONFIG, CHECKPOINTS = "config.yaml", "checkpoints"  # in the run's folder
WEIGHT, AVERAGE = "weight", "ema"


class Origin(Protocol):
    """What a stage is built from: a checkpoint of the run itself, or what the run begins from."""

    @property
    def progress(self) -> Progress: ...

    def fill(self, model: Multimodal) -> None: ...

    def kinds(self) -> list[str]: ...

    def read(self, name: str) -> Tensor: ...

    def __contains__(self, name: str) -> bool: ...


class Saved:
    """A checkpoint that verified, open for reading by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.progress = Progress(**json.loads((path / "state.json").read_text()))
        self._files: list[Any] = [safe_open(part, framework="pt") for part in sorted(path.glob("*.safetensors"))]
        self._where = {name: part for part in self._files for name in part.keys()}  # noqa: SIM118  # not a mapping

    def kinds(self) -> list[str]:
        return sorted({name.partition("/")[0] for name in self._where})

    def of(self, kind: str) -> dict[str, Tensor]:
        return {name.partition("/")[2]: self.read(name) for name in self._where if name.startswith(f"{kind}/")}

    def read(self, name: str) -> Tensor:
        tensor: Tensor = self._where[name].get_tensor(name)
        return tensor

    def __contains__(self, name: str) -> bool:
        return name in self._where

    def fill(self, model: Multimodal) -> None:
        fill(model, self.weights(averaged=False))

    def weights(self, averaged: bool) -> dict[str, Tensor]:
        """The model's weights by name; where asked for and kept, their moving average."""
        return self.of(WEIGHT) | (self.of(AVERAGE) if averaged else {})


def resume_point(parent: Path, world: World) -> Saved | None:
    """The newest checkpoint that verifies; the first rank says which ones it passed over, and why."""
    found = world.broadcast(newest(parent) if world.first else Found(None, ()))
    if world.first:
        for name in found.passed_over:
            print(f"tercet: passed over the checkpoint {name}", file=sys.stderr)
    return None if found.path is None else Saved(found.path)


def fill(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Weights by name. Temperatures come and go with the terms of a stage; nothing else may differ."""
    wrong = model.load_state_dict(weights, strict=False)
    odd = [name for name in (*wrong.missing_keys, *wrong.unexpected_keys) if not name.startswith(TEMPERATURES)]
    if odd:
        more = f" (and {len(odd) - 1} more)" if len(odd) > 1 else ""
        raise UserError(f"the checkpoint does not fit the model at {odd[0]}{more}: it was made by other code or towers")
