"""The arguments of a loss, checked. They come by name, or in the order and under the names of open_clip's `ClipLoss`.

Fields may differ in dtype, as they do under autocast. The loss is computed in fp32, or in fp64 if any field is fp64.
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
class LossInputs:
    """The fields as they were passed; scale and bias as scalars, in the dtype of the computation."""

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


def loss_inputs(ordered: Sequence[Any], named: Mapping[str, Any], groups: Any) -> LossInputs:
    fields = _by_name(ordered, named)
    scale, bias = fields.pop("scale", None), fields.pop("bias", None)
    if len(fields) < 2 or scale is None:
        raise UserError(f"a loss needs two or more fields and a `scale`. Call it as {CALL}")
    _check_rows(fields)
    first = next(iter(fields.values()))
    dtype = reduce(torch.promote_types, (rows.dtype for rows in fields.values()), torch.float32)
    shift = None if bias is None else _number("bias", bias, first.device, dtype)
    return LossInputs(fields, _number("scale", scale, first.device, dtype), shift, _groups(groups, first))


def _by_name(ordered: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
    if len(ordered) > len(CLIP_LOSS):
        raise UserError(f"a loss takes only {', '.join(CLIP_LOSS)} by position. Pass the rest by name: {CALL}")
    values: dict[str, Any] = {}
    for name, value in (*zip(CLIP_LOSS, ordered, strict=False), *named.items()):
        ours = CLIP_LOSS.get(name, name)
        if ours in values:
            raise UserError(f"the loss got `{ours}` twice. Pass it once: {CALL}")
        if value is not None:
            values[ours] = value
    return values


def _check_rows(fields: Mapping[str, Any]) -> None:
    for name, rows in fields.items():
        if not isinstance(rows, Tensor):
            raise UserError(
                f"`{name}` of the loss is of type {type(rows).__name__}. Pass a tensor of shape [items, dimensions]"
            )
    shapes = {name: list(rows.shape) for name, rows in fields.items()}
    one = next(iter(shapes.values()))
    if len(one) != 2 or any(shape != one for shape in shapes.values()):
        raise UserError(f"all fields of the loss must have one shape [items, dimensions], but got {_listed(shapes)}")
    devices = {name: rows.device for name, rows in fields.items()}
    if len(set(devices.values())) > 1:
        raise UserError(f"the fields of the loss are on several devices: {_listed(devices)}. Move them to one device")


def _listed(facts: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {fact}" for name, fact in facts.items())


def _number(name: str, value: Any, device: torch.device, dtype: torch.dtype) -> Tensor:
    number = torch.as_tensor(value)
    if number.numel() != 1:
        raise UserError(f"`{name}` of the loss has shape {list(number.shape)}. Pass one number")
    return number.to(device, dtype).reshape(())


def _groups(groups: Any, rows: Tensor) -> Tensor | None:
    if groups is None:
        return None
    numbers = torch.as_tensor(groups, device=rows.device)
    if numbers.shape != rows.shape[:1]:
        shape = list(numbers.shape)
        raise UserError(f"`groups` of the loss has shape {shape}. Pass one number for each of the {len(rows)} items")
    return numbers
