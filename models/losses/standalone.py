"""A registered objective for anybody's training loop: where open_clip's `ClipLoss` stands, with exact gradients.

Under DistributedDataParallel, which averages gradients over ranks, every parameter gets the gradient of the loss over
the whole batch: rows are given theirs times the number of ranks, while temperature and bias, which every rank holds,
get the whole one on each. No matrix of logits exists, so that memory is linear in the batch.

Shapes: n rows of this rank, N of all ranks, d dimensions.
"""

import warnings
from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.config import ObjectiveConfig
from tercet.models.losses.kernel import Contrast, Pair, Side, contrast
from tercet.models.losses.objective import Objective, build_objective

warnings.filterwarnings("ignore", "`torch.distributed.all_gather_into_tensor`", FutureWarning)  # the name in torch 2.11

TILE = 512
CLIP_LOSS = {"image_features": "image", "text_features": "text", "logit_scale": "scale", "logit_bias": "bias"}


def loss(name: str, *, tile: int = TILE, **options: object) -> "Loss":
    """An objective by its name, its fields as options; `tile` columns of the logits exist at a time."""
    return Loss(build_objective(ObjectiveConfig.model_validate({"name": name, **options})), tile)


class Loss(nn.Module):
    """The loss over the rows of all ranks; of three fields or more, the sum over all pairs."""

    def __init__(self, objective: Objective, tile: int = TILE) -> None:
        super().__init__()
        self.objective, self.tile = objective, tile

    def forward(
        self, *ordered: Tensor, groups: Tensor | None = None, output_dict: bool = False, **named: Tensor
    ) -> Tensor | dict[str, Tensor]:
        """`loss(image=…, text=…, scale=…, bias=…)`, or as `ClipLoss` is called, in order or by its own names.

        Row i of every field belongs to item i, and every rank brings equally many. Items of one of the `groups` `[n]`,
        which is a number for each, do not repel each other.
        """
        fields = dict(zip(CLIP_LOSS, ordered, strict=False)) | named
        fields = {CLIP_LOSS.get(name, name): value for name, value in fields.items() if value is not None}
        scale, bias = fields.pop("scale", None), fields.pop("bias", None)
        check(fields, scale, groups)
        total = self.over_pairs(fields, torch.as_tensor(scale), None if bias is None else torch.as_tensor(bias), groups)
        return {"contrastive_loss": total} if output_dict else total

    def over_pairs(
        self, fields: Mapping[str, Tensor], scale: Tensor, bias: Tensor | None, groups: Tensor | None
    ) -> Tensor:
        first = next(iter(fields.values()))
        world = present_world(first.device)
        sides = gather(fields, groups, world)
        scale = scale.to(first.device)
        losses = []
        for one, other in combinations(fields, 2):
            solve = self._solver(sides[one], sides[other], world)
            losses.append(_Exact.apply(solve, world.size, fields[one], fields[other], scale, bias))
        return torch.stack(losses).sum()

    def _solver(self, x: Side, y: Side, world: World) -> Callable[[Tensor, Tensor | None], Contrast]:
        def solve(scale: Tensor, bias: Tensor | None) -> Contrast:
            return contrast(self.objective, Pair(x, y, scale, bias, self.tile), world)

        return solve


class _Exact(torch.autograd.Function):
    """The kernel's loss, whose gradients are known when it is."""

    @staticmethod
    def forward(
        ctx: Any,
        solve: Callable[[Tensor, Tensor | None], Contrast],
        ranks: int,
        x_nd: Tensor,
        y_nd: Tensor,
        scale: Tensor,
        bias: Tensor | None,
    ) -> Tensor:
        with torch.autocast(x_nd.device.type, enabled=False):
            found = solve(at_least_fp32(scale), None if bias is None else at_least_fp32(bias))
        slopes = [ranks * found.x_Ad, ranks * found.y_Ad, found.scale, found.bias]
        ctx.save_for_backward(*(s.to(v.dtype) for s, v in zip(slopes, (x_nd, y_nd, scale, scale), strict=True)))
        ctx.shapes = scale.shape, None if bias is None else bias.shape
        return found.loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x_nd, y_nd, scale, bias = (grad.to(slope.dtype) * slope for slope in ctx.saved_tensors)
        scale_shape, bias_shape = ctx.shapes
        return (
            None,
            None,
            x_nd,
            y_nd,
            scale.reshape(scale_shape),
            None if bias_shape is None else bias.reshape(bias_shape),
        )


def check(fields: Mapping[str, Tensor], scale: Tensor | None, groups: Tensor | None) -> None:
    if len(fields) < 2 or scale is None:
        raise UserError("a loss takes two fields or more and their `scale`, as loss(image=…, text=…, scale=…)")
    shapes = {name: tuple(rows.shape) for name, rows in fields.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 2 for shape in shapes.values()):
        told = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise UserError(f"every field has a row for each item and one width, but here are {told}")
    rows = len(next(iter(fields.values())))
    if groups is not None and groups.shape != (rows,):
        raise UserError(f"`groups` is one number for each of the {rows} items, but has shape {list(groups.shape)}")


def present_world(device: torch.device) -> World:
    """The default process group, where there is one."""
    if not (dist.is_available() and dist.is_initialized()):
        return World(device=device)
    return World(dist.get_rank(), dist.get_world_size(), device)


def gather(fields: Mapping[str, Tensor], groups: Tensor | None, world: World) -> dict[str, Side]:
    """Each field's rows of all ranks, at full precision; items without a group are one each."""
    rows = len(next(iter(fields.values())))
    group_N = torch.arange(rows * world.size, device=world.device) if groups is None else world.gather(groups)
    own = slice(world.rank * rows, (world.rank + 1) * rows)
    return {name: Side(world.gather(at_least_fp32(z_nd.detach())), group_N, own) for name, z_nd in fields.items()}


def at_least_fp32(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
