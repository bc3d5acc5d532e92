"""Any registered objective as a loss for your own training loop. It replaces open_clip's `ClipLoss`.

Gradients are exact. Memory is linear in the batch, because a large matrix of logits is never stored. Under
DistributedDataParallel, every parameter gets the gradient of the loss over the whole batch. DDP averages gradients over
ranks, so the gradient of the rows is multiplied by the number of ranks. The gradient of scale and bias is not, because
every rank has all of it.

Shapes: n rows of this rank, N of all ranks, d dimensions.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tercet.configs.base import build
from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.losses.inputs import LossInputs, loss_inputs
from tercet.models.losses.objective import Objective, build_objective
from tercet.models.losses.problem import Problem, Solution
from tercet.models.losses.rows import Rows
from tercet.models.term_config import ObjectiveConfig

warnings.filterwarnings("ignore", "`torch.distributed.all_gather_into_tensor`", FutureWarning)  # the name in torch 2.11

TILE = 512


def loss(name: str, *, tile: int = TILE, **options: object) -> "Loss":
    """The loss of a registered objective. `options` are the fields of the objective.

    `tile` is how many columns of the logits are computed at a time: more is faster, fewer need less memory.
    """
    if tile < 1:
        raise UserError(f"`tile` of the loss is {tile}. Pass 1 or more")
    objective = build_objective(build(ObjectiveConfig, {"name": name, **options}, lambda key: "loss"))
    if objective.columns:
        raise UserError(f"the loss `{name}` keeps values of samples from step to step; train it with a recipe")
    if objective.tokens(("image", "text")):
        raise UserError(f"the loss `{name}` compares tokens of rows, not vectors; train it with a recipe")
    if objective.unnormalised:
        raise UserError(f"the loss `{name}` trains vectors before normalisation; train it with a recipe")
    if objective.prototypes:
        raise UserError(f"the loss `{name}` compares with clusters that a run keeps; train it with a recipe")
    return Loss(objective, tile)


class Loss(nn.Module):
    """The loss over the rows of all ranks. An objective of pairs sums the losses of all pairs of fields.

    Moving averages of an objective are buffers of the module, which change in training mode.
    """

    def __init__(self, objective: Objective, tile: int = TILE) -> None:
        super().__init__()
        self.objective, self.tile = objective, tile
        for name, value in objective.averages.items():
            self.register_buffer(name, torch.tensor(value))

    def forward(
        self,
        *ordered: Tensor,
        groups: Tensor | None = None,
        extra: Mapping[str, Mapping[str, Tensor]] | None = None,
        seed: int = 0,
        output_dict: bool = False,
        **named: Tensor,
    ) -> Tensor | dict[str, Tensor]:
        """Call it as `loss(image=…, text=…, scale=…, bias=…)`, or with the arguments of `ClipLoss`.

        Row i of every field belongs to item i. All ranks must pass the same number of rows. `groups` `[n]` has a number
        for each item: items with the same number do not repel each other. `extra` has further values of each row, by
        field and name, for objectives that need some: {"image": {"teacher": vectors}}. `seed` is for objectives that
        draw at random; pass the number of the step, the same on all ranks.
        """
        inputs = loss_inputs(ordered, named, groups)
        world = current_world(inputs.device)
        fields = gather(inputs, world, extra or {})
        given = {value for rows in fields.values() for value in rows.extra}
        for name, rows in fields.items():
            for value in (*self.objective.references, *given.intersection(self.objective.optional_references)):
                if value not in rows.extra:
                    raise UserError(
                        f"the loss needs `{value}` of {name}. Pass it: extra={{{name!r}: {{{value!r}: …}}}}"
                    )

        def solve(scale: Tensor, bias: Tensor | None) -> Solution:
            averages = {name: self.get_buffer(name) for name in self.objective.averages}
            problem = Problem(fields, scale, bias, self.tile, world, averages=averages, seed=seed)
            found = self.objective.solve(replace(problem, references=tuple(sorted(given))))
            for name, value in found.averages.items() if self.training else ():
                setattr(self, name, value)
            return found

        total = _Exact.apply(solve, world.size, tuple(fields), inputs.scale, inputs.bias, *inputs.fields.values())
        return {"contrastive_loss": total} if output_dict else total

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """A moving average is a number at first, and may be a vector later."""
        for name in self.objective.averages:
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name], device=self.get_buffer(name).device))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        return f"{self.objective}, tile={self.tile}"


class _Exact(torch.autograd.Function):
    """The loss of an objective. The forward pass already computes the gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        solve: Callable[[Tensor, Tensor | None], Solution],
        ranks: int,
        names: Sequence[str],
        scale: Tensor,
        bias: Tensor | None,
        *fields: Tensor,
    ) -> Tensor:
        with torch.autocast(fields[0].device.type, enabled=False):
            found = solve(scale, bias)
        slopes = [found.rows[name].mul_(ranks).to(z_nd.dtype) for name, z_nd in zip(names, fields, strict=True)]
        ctx.save_for_backward(found.scale, found.bias, *slopes)
        ctx.has_bias = bias is not None
        return found.loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        scale, bias, *fields = (grad.to(slope.dtype) * slope for slope in ctx.saved_tensors)
        return None, None, None, scale, bias if ctx.has_bias else None, *fields


def current_world(device: torch.device) -> World:
    """The ranks of the default process group, or this process alone."""
    if not (dist.is_available() and dist.is_initialized()):
        return World(device=device)
    return World(dist.get_rank(), dist.get_world_size(), device)


def gather(inputs: LossInputs, world: World, extra: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Rows]:
    """The rows of all ranks by field, at full precision. Without `groups`, every item is its own group."""
    rows = len(next(iter(inputs.fields.values())))
    group_N = torch.arange(rows * world.size, device=world.device)
    if inputs.groups is not None:
        group_N = world.gather(inputs.groups)
    own = slice(world.rank * rows, (world.rank + 1) * rows)
    whole = {}
    for name, z_nd in inputs.fields.items():
        numbered = Rows.numbered(world.gather(z_nd.detach().to(inputs.dtype)), own, group_N)
        values = {key: world.gather(value.detach().to(inputs.dtype)) for key, value in extra.get(name, {}).items()}
        whole[name] = replace(numbered, extra=values)
    return whole
