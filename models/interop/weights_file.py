"""A file of weights, read so that nothing in it can run."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tercet.errors import UserError

WRITTEN = (b"PK", b"\x80")  # how what torch.save wrote begins: an archive, or before torch 1.6 a pickle
WRAPPERS = ("module.", "_orig_mod.")  # of DDP, of torch.compile


def read_file(path: Path) -> dict[str, Any]:
    """All that a file holds: weights by name, or a checkpoint with weights somewhere in it."""
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        _check_written(path)
        held = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{path}: holds more than tensors and plain values, which might run code, and is not loaded; "
            "save its state_dict alone, or as safetensors"
        ) from None
    except (OSError, RuntimeError, EOFError, SafetensorError) as error:
        raise UserError(f"{path}: no weights can be read from it ({str(error).strip().splitlines()[0]})") from None
    if not isinstance(held, Mapping):
        raise UserError(f"{path}: holds a {type(held).__name__} where weights by name are expected")
    return dict(held)


def _check_written(path: Path) -> None:
    """A reader of pickles would make anything of another file."""
    with path.open("rb") as file:
        begun = file.read(2)
    if not begun.startswith(WRITTEN):
        raise UserError(f"{path} is no checkpoint: torch.save did not write it, and its name does not end .safetensors")


def state_in(held: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The weights among what a file holds, without the names of what was wrapped around the model."""
    state = held.get("state_dict", held)
    weights = {bare(name): value for name, value in state.items() if isinstance(value, Tensor)}
    if not weights:
        raise UserError(f"{path}: holds no weights by name, and none under `state_dict`")
    return weights


def bare(name: str) -> str:
    while name.startswith(WRAPPERS):
        name = name.partition(".")[2]
    return name
