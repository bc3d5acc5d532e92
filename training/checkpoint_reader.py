"""Reads a run's checkpoint by name: how far the run is, and its tensors. Needs no engine.

    weight/NAME              a parameter or buffer of the model
    optim/exp_avg/NAME       an optimizer moment of a parameter
    memory/MEMORY/…          what a memory keeps; see `training/memory/`

A tensor is written whole by one rank, or, if a memory marks it as sharded, in parts: each rank writes its own rows.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from safetensors import safe_open
from torch import Tensor, nn

from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.interop.pretrained import TEMPERATURES
from tercet.models.multimodal import Multimodal
from tercet.training.commit import Found, newest
from tercet.training.memory.config import EMA
from tercet.training.progress import Progress

CONFIG, CHECKPOINTS = "config.yaml", "checkpoints"  # in the run's folder
WEIGHT, OPTIM, MEMORY = "weight", "optim", "memory"  # what the first part of a tensor's name says it is
SHARDED = "sharded"  # the key, in a file's metadata, of the list of tensors that each rank holds its own rows of


class Origin(Protocol):
    """What a stage is built from: a checkpoint of the run itself, or what the run begins from."""

    @property
    def progress(self) -> Progress: ...

    def fill(self, model: Multimodal) -> None: ...

    @property
    def ranks(self) -> int:
        """How many ranks wrote it."""
        ...

    def names(self, prefix: str) -> list[str]:
        """What follows `prefix` in the names of all tensors that begin with it."""
        ...

    def read(self, name: str) -> Tensor: ...

    def read_shard(self, name: str, rank: int) -> Tensor:
        """A rank's rows of a sharded tensor."""
        ...


class Saved:
    """A checkpoint that verified, open for reading by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.progress = Progress(**json.loads((path / "state.json").read_text()))
        self._files: list[Any] = [safe_open(part, framework="pt") for part in sorted(path.glob("*.safetensors"))]
        names = {name: part for part in self._files for name in part.keys()}  # noqa: SIM118  # not a mapping
        self._check_names(names)
        self._sharded = set(json.loads((self._files[0].metadata() or {}).get(SHARDED, "[]")))
        self._whole = {name: part for name, part in names.items() if name not in self._sharded}

    @property
    def ranks(self) -> int:
        return len(self._files)

    def names(self, prefix: str) -> list[str]:
        known = (*self._whole, *self._sharded)
        return sorted(name.removeprefix(prefix) for name in known if name.startswith(prefix))

    def read(self, name: str) -> Tensor:
        tensor: Tensor = self._whole[name].get_tensor(name)
        return tensor

    def read_shard(self, name: str, rank: int) -> Tensor:
        tensor: Tensor = self._files[rank].get_tensor(name)
        return tensor

    def fill(self, model: Multimodal) -> None:
        fill(model, self.weights(averaged=False))

    def weights(self, averaged: bool) -> dict[str, Tensor]:
        """The model's weights by name; if asked for and kept, their moving average."""
        return self._of(WEIGHT) | (self._of(f"{MEMORY}/{EMA}") if averaged else {})

    def _of(self, kind: str) -> dict[str, Tensor]:
        return {name: self.read(f"{kind}/{name}") for name in self.names(f"{kind}/")}

    def _check_names(self, names: Iterable[str]) -> None:
        odd = next((name for name in names if name.partition("/")[0] not in (WEIGHT, OPTIM, MEMORY)), None)
        if odd:
            raise UserError(
                f"the checkpoint {self.path} was written by an earlier version of tercet (it names a tensor `{odd}`): "
                "continue the run with that version, or start a new run with out=…"
            )


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
