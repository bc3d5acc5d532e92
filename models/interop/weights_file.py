"""Reads files of weights without running code from them."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tercet.errors import UserError

WRITTEN = (b"PK", b"\x80")  # first bytes of files from torch.save: an archive, or a pickle before torch 1.6
WRAPPERS = ("module.", "_orig_mod.")  # prefixes that DDP and torch.compile add
NUMBERS: list[Any] = [  # of NumPy, such as the scores that checkpoints of LAION-CLAP hold
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("float64", "float32", "int64")),
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
    (np.float64(0).__reduce__()[0], "numpy._core.multiarray.scalar"),
]


def read_file(path: Path) -> dict[str, Any]:
    """The content of a file: weights by name, or a checkpoint that contains them."""
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        _check_written(path)
        with torch.serialization.safe_globals(NUMBERS):
            held = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{path} is not loaded: it holds objects other than tensors and plain values, which might run code; "
            "save only the state_dict, or use safetensors"
        ) from None
    except (OSError, RuntimeError, EOFError, SafetensorError) as error:
        raise UserError(
            f"{path}: cannot read weights ({str(error).strip().splitlines()[0]}); save the file again"
        ) from None
    if not isinstance(held, Mapping):
        raise UserError(f"{path} holds a {type(held).__name__} instead of weights by name; save a state_dict")
    return dict(held)


def _check_written(path: Path) -> None:
    """Rejects other files, which the reader of pickles could misread."""
    with path.open("rb") as file:
        start = file.read(2)
    if not start.startswith(WRITTEN):
        raise UserError(f"{path} is not a checkpoint from torch.save, and its name does not end in .safetensors")


def state_in(held: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The weights in the content of a file, without the prefixes of wrappers such as DDP."""
    state = held.get("state_dict", held)
    weights = {bare(name): value for name, value in state.items() if isinstance(value, Tensor)}
    if not weights:
        raise UserError(f"{path} holds no weights by name, not even under `state_dict`; save a state_dict")
    return weights


def bare(name: str) -> str:
    while name.startswith(WRAPPERS):
        name = name.partition(".")[2]
    return name
