"""Reads a run's checkpoint: the progress of the run, and its tensors by name. Needs no engine.

    weight/NAME              a parameter or buffer of the model
    optim/exp_avg/NAME       an optimizer moment of a parameter
    memory/MEMORY/…          a tensor of a memory; see `training/memory/`

One rank writes each tensor whole. If a memory marks a tensor as sharded, each rank writes the rows that it owns.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from safetensors import safe_open
from torch import Tensor

from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.interop.pretrained import OF_TERMS
from tercet.models.multimodal import Multimodal
from tercet.training.checkpoints.commit import Found, newest
from tercet.training.checkpoints.progress import Progress
from tercet.training.memory.config import EMA

CONFIG, CHECKPOINTS = "config.yaml", "checkpoints"  # in the run's folder
WEIGHT, OPTIM, MEMORY = "weight", "optim", "memory"  # the first part of a tensor's name: its kind
SHARDED = "sharded"  # the key, in a file's metadata, of the list of sharded tensors


class Origin(Protocol):
    """The source of a stage's first weights: a checkpoint of the run, or the weights of `init`."""

    @property
    def progress(self) -> Progress: ...

    def fill(self, model: Multimodal) -> None: ...

    @property
    def ranks(self) -> int:
        """How many ranks wrote it."""
        ...

    def names(self, prefix: str) -> list[str]:
        """The names of all tensors that begin with `prefix`, without the prefix."""
        ...

    def read(self, name: str) -> Tensor: ...

    def read_shard(self, name: str, rank: int) -> Tensor:
        """A rank's rows of a sharded tensor."""
        ...


class Saved:
    """A checkpoint that matches its manifest, open for reading by name."""

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
        """The model's weights by name. With `averaged`, their moving averages if the run kept them."""
        return self._read_all(WEIGHT) | (self._read_all(f"{MEMORY}/{EMA}") if averaged else {})

    def _read_all(self, kind: str) -> dict[str, Tensor]:
        return {name: self.read(f"{kind}/{name}") for name in self.names(f"{kind}/")}

    def _check_names(self, names: Iterable[str]) -> None:
        unknown = next((name for name in names if name.partition("/")[0] not in (WEIGHT, OPTIM, MEMORY)), None)
        if unknown:
            raise UserError(
                f"the checkpoint {self.path} was written by an earlier version of tercet (it has a tensor named "
                f"`{unknown}`). Continue the run with that version, or start a new run with out=…"
            )


def resume_point(parent: Path, world: World) -> Saved | None:
    """The newest valid checkpoint. The first rank prints which damaged ones it skips, and why. A collective."""
    found = world.broadcast(newest(parent) if world.first else Found(None, ()))
    if world.first:
        for name in found.damaged:
            print(f"tercet: skips the damaged checkpoint {name}", file=sys.stderr)
    return None if found.path is None else Saved(found.path)


def fitted(model: Multimodal, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights in the shapes that they have in this model: a stage may change the number of positions."""
    own = model.state_dict()
    return {name: model.fitted(name, one, own[name].shape) if name in own else one for name, one in weights.items()}


def fill(model: Multimodal, weights: Mapping[str, Tensor]) -> None:
    """Loads weights by name. What belongs to terms may differ, because stages may have different ones; other names may
    not."""
    own, weights = model.state_dict(), fitted(model, weights)
    resized = next((name for name in own.keys() & weights.keys() if own[name].shape != weights[name].shape), None)
    if resized:
        raise UserError(
            f"the checkpoint does not fit the model: `{resized}` has shape {list(weights[resized].shape)} in the "
            f"checkpoint and {list(own[resized].shape)} in the model. Give a projector of another size to a term of "
            "another name; or start a new run with out=…"
        )
    wrong = model.load_state_dict(weights, strict=False)
    differ = [name for name in (*wrong.missing_keys, *wrong.unexpected_keys) if not name.startswith(OF_TERMS)]
    if differ:
        more = f" (and {len(differ) - 1} more)" if len(differ) > 1 else ""
        raise UserError(
            f"the checkpoint does not fit the model: `{differ[0]}`{more} is in only one of them. Use the towers and "
            "the version of tercet that wrote the checkpoint, or start a new run with out=…"
        )
