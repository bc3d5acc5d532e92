"""What decides a vector, as digests: the weights in their architecture, and how a sample is read and seen."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from hashlib import blake2b

import torch
from torch import Tensor, nn
from xxhash import xxh3_128

from tercet.data_pipelines.config import SplitConfig
from tercet.data_pipelines.sample import Intake, TextIntake

TOLD = ("A photo of two dogs, and 3 × naïve cafés!", "", "word " * 400)  # what a tokenizer makes of them tells it apart
ADDRESS = " at 0x"  # in the names of things that have no other


def weights_digest(model: nn.Module) -> str:
    """Over every parameter and buffer by name, and the plain settings of every module."""
    state = xxh3_128(json.dumps(list(_settings(model))).encode())
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        state.update(_bytes(tensor))
    return state.hexdigest()


def transform_digest(intakes: Mapping[str, Intake], split: SplitConfig, exact_images: bool) -> str:
    """Where the data lie makes no difference, but which columns and captions are read does."""
    read = split.model_dump(mode="json", exclude={"source"})
    seen = {name: _told(intake) for name, intake in sorted(intakes.items())}
    return blake2b(json.dumps([read, seen, exact_images]).encode(), digest_size=16).hexdigest()


def _settings(model: nn.Module) -> Iterator[list[str]]:
    """What no tensor shows: kinds of modules, numbers of heads, strides, the settings of a front end."""
    for name, module in model.named_modules():
        plain = {key: repr(value) for key, value in vars(module).items() if not key.startswith("_") and _plain(value)}
        plain.pop("training", None)
        yield [name, type(module).__qualname__, json.dumps(plain, sort_keys=True)]


def _plain(value: object) -> bool:
    simple = isinstance(value, bool | int | float | str | tuple) or is_dataclass(value)
    return simple and ADDRESS not in repr(value)


def _bytes(tensor: Tensor) -> memoryview:
    flat = tensor.detach().cpu().contiguous().view(-1)
    return flat.view(torch.uint8).numpy().data


def _told(intake: Intake) -> str:
    if isinstance(intake, TextIntake):
        return xxh3_128(intake.tokenize(list(TOLD)).numpy().tobytes()).hexdigest()
    return repr(intake)
