"""A registered objective for anybody's training loop: where open_clip's `ClipLoss` stands, with exact gradients.

Under DistributedDataParallel, which averages gradients over ranks, every parameter gets the gradient of the loss over
the whole batch: rows are given theirs times the number of ranks, while temperature and bias, which every rank holds,
get the whole one on each. No matrix of logits exists, so that memory is linear in the batch.

Shapes: n rows of this rank, N of all ranks, d dimensions.
"""

import warnings
from collections.abc import Callable
from itertools import combinations
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tercet.configs.base import build
from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.config import ObjectiveConfig
from tercet.models.losses.given import Given, given
from tercet.models.losses.kernel import Contrast, Pair, Side, contrast
from tercet.models.losses.objective import Objective, build_objective

warnings.filterwarnings("ignore", "`torch.distributed.all_gather_into_tensor`", FutureWarning)  # the name in torch 2.11

TILE = 512


def loss(name: str, *, tile: int = TILE, **options: object) -> "Loss":
    """An objective by its name, its fields as options; `tile` columns of the logits exist at a time."""
    if tile < 1:
        raise UserError(f"`tile` of the loss is {tile}, the columns that exist at a time; give 1 or more")
    return Loss(build_objective(build(ObjectiveConfig, {"name": name, **options}, lambda key: "loss")), tile)


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
        total = self.over_pairs(given(ordered, named, groups))
        return {"contrastive_loss": total} if output_dict else total

    def over_pairs(self, asked: Given) -> Tensor:
        world = present_world(asked.device)
        sides = gather(asked, world)
        losses = []
        for one, other in combinations(asked.fields, 2):
            solve = self._solver(sides[one], sides[other], world)
            rows = asked.fields[one], asked.fields[other]
            losses.append(_Exact.apply(solve, world.size, *rows, asked.scale, asked.bias))
        return torch.stack(losses).sum()

    def extra_repr(self) -> str:
        return f"{self.objective}, tile={self.tile}"

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
            found = solve(scale, bias)
        x_slope_nd, y_slope_nd = (ranks * found.x_Ad).to(x_nd.dtype), (ranks * found.y_Ad).to(y_nd.dtype)
        ctx.save_for_backward(x_slope_nd, y_slope_nd, found.scale, found.bias)
        return found.loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x_nd, y_nd, scale, bias = (grad.to(slope.dtype) * slope for slope in ctx.saved_tensors)
        return None, None, x_nd, y_nd, scale, bias if ctx.needs_input_grad[-1] else None


def present_world(device: torch.device) -> World:
    """The default process group, where there is one."""
    if not (dist.is_available() and dist.is_initialized()):
        return World(device=device)
    return World(dist.get_rank(), dist.get_world_size(), device)


def gather(asked: Given, world: World) -> dict[str, Side]:
    """Each field's rows of all ranks, at full precision; items without a group are one each."""
    rows = len(next(iter(asked.fields.values())))
    group_N = torch.arange(rows * world.size, device=world.device)
    if asked.groups is not None:
        group_N = world.gather(asked.groups)
    own = slice(world.rank * rows, (world.rank + 1) * rows)
    whole = {name: world.gather(z_nd.detach().to(asked.dtype)) for name, z_nd in asked.fields.items()}
    return {name: Side(z_Nd, group_N, own) for name, z_Nd in whole.items()}
