"""What a training loop hands to a loss, by our names or in `ClipLoss`'s order and by its names. All is checked here.

Rows may come in types of their own, as under autocast: what is computed is computed in fp32, or in fp64 where any are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from tercet.errors import UserError

CLIP_LOSS = {"image_features": "image", "text_features": "text", "logit_scale": "scale", "logit_bias": "bias"}
CALL = "loss(image=…, text=…, scale=…)"


@dataclass(frozen=True)
class Given:
    """Rows by field as they came; scale and bias as one number each, where and in the type that they are used."""

    fields: dict[str, Tensor]
    scale: Tensor
    bias: Tensor | None
    groups: Tensor | None

    @property
    def dtype(self) -> torch.dtype:
        return self.scale.dtype

    @property
    def device(self) -> torch.device:
        return self.scale.device


def given(ordered: Sequence[Any], named: Mapping[str, Any], groups: Any) -> Given:
    fields = _by_name(ordered, named)
    scale, bias = fields.pop("scale", None), fields.pop("bias", None)
    if len(fields) < 2 or scale is None:
        raise UserError(f"a loss takes two fields or more and their `scale`, as {CALL}")
    _check_rows(fields)
    first = next(iter(fields.values()))
    dtype = reduce(torch.promote_types, (rows.dtype for rows in fields.values()), torch.float32)
    shift = None if bias is None else _number("bias", bias, first.device, dtype)
    return Given(fields, _number("scale", scale, first.device, dtype), shift, _groups(groups, first))


def _by_name(ordered: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
    if len(ordered) > len(CLIP_LOSS):
        raise UserError(f"a loss takes {', '.join(CLIP_LOSS)} in order, and the rest by name, as {CALL}")
    values: dict[str, Any] = {}
    for name, value in (*zip(CLIP_LOSS, ordered, strict=False), *named.items()):
        ours = CLIP_LOSS.get(name, name)
        if ours in values:
            raise UserError(f"`{ours}` of the loss is given twice; give it once, as {CALL}")
        if value is not None:
            values[ours] = value
    return values


def _check_rows(fields: Mapping[str, Any]) -> None:
    for name, rows in fields.items():
        if not isinstance(rows, Tensor):
            raise UserError(f"`{name}` of the loss is of type {type(rows).__name__}; give a tensor [items, dimensions]")
    shapes = {name: list(rows.shape) for name, rows in fields.items()}
    one = next(iter(shapes.values()))
    if len(one) != 2 or any(shape != one for shape in shapes.values()):
        raise UserError(f"every field has a row for each item and one width, but here are {_told(shapes)}")
    devices = {name: f"on {rows.device}" for name, rows in fields.items()}
    if len(set(devices.values())) > 1:
        raise UserError(f"the fields of a loss lie on one device, but here are {_told(devices)}; move them together")


def _told(facts: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {fact}" for name, fact in facts.items())


def _number(name: str, value: Any, device: torch.device, dtype: torch.dtype) -> Tensor:
    number = torch.as_tensor(value)
    if number.numel() != 1:
        raise UserError(f"`{name}` is one number for the whole loss, but has shape {list(number.shape)}")
    return number.to(device, dtype).reshape(())


def _groups(groups: Any, rows: Tensor) -> Tensor | None:
    if groups is None:
        return None
    numbers = torch.as_tensor(groups, device=rows.device)
    if numbers.shape != rows.shape[:1]:
        shape = list(numbers.shape)
        raise UserError(f"`groups` is one number for each of the {len(rows)} items, but has shape {shape}")
    return numbers
