"""Digests of what determines an embedding: the model with its weights, and how samples are read and transformed."""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import is_dataclass
from hashlib import blake2b

import torch
from torch import Tensor, nn
from xxhash import xxh3_128

from tercet.data_pipelines.captions.sidecar import sidecar_state
from tercet.data_pipelines.config import SplitConfig
from tercet.data_pipelines.sample import Intake, TextIntake
from tercet.data_pipelines.source import Source

PROBES = ("A photo of two dogs, and 3 × naïve cafés!", "", "word " * 400)  # tokenizers differ in at least one of these
ADDRESS = " at 0x"  # part of the default repr of objects


def tower_digest(tower: nn.Module) -> str:
    """A digest of what the tower computes. It is the same if the tower is locked, or recomputes activations."""
    return weights_digest(tower, ("still", "grad_checkpointing"))


def weights_digest(model: nn.Module, ignoring: Collection[str] = ()) -> str:
    """Over every parameter and buffer by name, and the plain settings of every module, but not those `ignoring`."""
    state = xxh3_128(json.dumps(list(_settings(model, ("training", *ignoring)))).encode())
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        state.update(_bytes(tensor))
    return state.hexdigest()


def data_digest(source: Source, split: SplitConfig) -> str:
    """Over the samples and the options by which they are read, but not their location. Of a table that names files, it
    covers the names and the captions, not the content of the files."""
    read = split.model_dump(mode="json", exclude={"source"}) | {"sidecar": sidecar_state(split.sidecar)}
    return blake2b(json.dumps([source.fingerprint, read]).encode(), digest_size=16).hexdigest()


def transform_digest(intakes: Mapping[str, Intake], split: SplitConfig, exact_images: bool) -> str:
    """Covers the options by which samples are read, such as columns and captions, but not their location."""
    read = split.model_dump(mode="json", exclude={"source"}) | {"sidecar": sidecar_state(split.sidecar)}
    seen = {name: _seen(intake) for name, intake in sorted(intakes.items())}
    return blake2b(json.dumps([read, seen, exact_images]).encode(), digest_size=16).hexdigest()


def _settings(model: nn.Module, ignored: Collection[str]) -> Iterator[list[str]]:
    """What no tensor shows: types of modules, numbers of heads, strides, settings of a front end."""
    for name, module in model.named_modules():
        plain = {key: repr(value) for key, value in vars(module).items() if not key.startswith("_") and _plain(value)}
        kept = {key: value for key, value in plain.items() if key not in ignored}
        yield [name, type(module).__qualname__, json.dumps(kept, sort_keys=True)]


def _plain(value: object) -> bool:
    simple = isinstance(value, bool | int | float | str | tuple) or is_dataclass(value)
    return simple and ADDRESS not in repr(value)


def _bytes(tensor: Tensor) -> memoryview:
    flat = tensor.detach().cpu().contiguous().view(-1)
    return flat.view(torch.uint8).numpy().data


def _seen(intake: Intake) -> str:
    if isinstance(intake, TextIntake):
        return xxh3_128(intake.tokenize(list(PROBES)).numpy().tobytes()).hexdigest()
    return repr(intake)
