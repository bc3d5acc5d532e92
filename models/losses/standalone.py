"""Any registered objective as a loss for your own training loop. It replaces open_clip's `ClipLoss`.

Gradients are exact. Memory is linear in the batch, because the matrix of logits is never stored. Under
DistributedDataParallel, every parameter gets the gradient of the loss over the whole batch. DDP averages gradients over
ranks, so the gradient of the rows is multiplied by the number of ranks. The gradient of scale and bias is not, because
every rank has all of it.

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
from tercet.models.losses.inputs import LossInputs, loss_inputs
from tercet.models.losses.kernel import Contrast, Pair, contrast
from tercet.models.losses.objective import Objective, build_objective
from tercet.models.losses.rows import Rows

warnings.filterwarnings("ignore", "`torch.distributed.all_gather_into_tensor`", FutureWarning)  # the name in torch 2.11

TILE = 512


def loss(name: str, *, tile: int = TILE, **options: object) -> "Loss":
    """The loss of a registered objective. `options` are the fields of the objective.

    `tile` is how many columns of the logits are computed at a time: more is faster, fewer need less memory.
    """
    if tile < 1:
        raise UserError(f"`tile` of the loss is {tile}. Pass 1 or more")
    return Loss(build_objective(build(ObjectiveConfig, {"name": name, **options}, lambda key: "loss")), tile)


class Loss(nn.Module):
    """The loss over the rows of all ranks. With three or more fields, it is the sum over all pairs of fields."""

    def __init__(self, objective: Objective, tile: int = TILE) -> None:
        super().__init__()
        self.objective, self.tile = objective, tile

    def forward(
        self, *ordered: Tensor, groups: Tensor | None = None, output_dict: bool = False, **named: Tensor
    ) -> Tensor | dict[str, Tensor]:
        """Call it as `loss(image=…, text=…, scale=…, bias=…)`, or with the arguments of `ClipLoss`.

        Row i of every field belongs to item i. All ranks must pass the same number of rows. `groups` `[n]` has a number
        for each item: items with the same number do not repel each other.
        """
        total = self.over_pairs(loss_inputs(ordered, named, groups))
        return {"contrastive_loss": total} if output_dict else total

    def over_pairs(self, inputs: LossInputs) -> Tensor:
        world = current_world(inputs.device)
        sides = gather(inputs, world)
        losses = []
        for one, other in combinations(inputs.fields, 2):
            solve = self._solver(sides[one], sides[other], world)
            rows = inputs.fields[one], inputs.fields[other]
            losses.append(_Exact.apply(solve, world.size, *rows, inputs.scale, inputs.bias))
        return torch.stack(losses).sum()

    def extra_repr(self) -> str:
        return f"{self.objective}, tile={self.tile}"

    def _solver(self, x: Rows, y: Rows, world: World) -> Callable[[Tensor, Tensor | None], Contrast]:
        def solve(scale: Tensor, bias: Tensor | None) -> Contrast:
            return contrast(self.objective, Pair(x, y, scale, bias, self.tile), world)

        return solve


class _Exact(torch.autograd.Function):
    """The loss of the kernel. The forward pass already computes the gradients."""

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


def current_world(device: torch.device) -> World:
    """The ranks of the default process group, or this process alone."""
    if not (dist.is_available() and dist.is_initialized()):
        return World(device=device)
    return World(dist.get_rank(), dist.get_world_size(), device)


def gather(inputs: LossInputs, world: World) -> dict[str, Rows]:
    """The rows of all ranks by field, at full precision. Without `groups`, every item is its own group."""
    rows = len(next(iter(inputs.fields.values())))
    group_N = torch.arange(rows * world.size, device=world.device)
    if inputs.groups is not None:
        group_N = world.gather(inputs.groups)
    own = slice(world.rank * rows, (world.rank + 1) * rows)
    whole = {name: world.gather(z_nd.detach().to(inputs.dtype)) for name, z_nd in inputs.fields.items()}
    return {name: Rows.numbered(z_Nd, own, group_N) for name, z_Nd in whole.items()}
