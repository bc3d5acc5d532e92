"""The base of all towers from transformers: their blocks, gradient checkpointing and options."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from tercet.errors import UserError, did_you_mean
from tercet.models.encoders.encoder import Encoder


class HfTower(Encoder):
    """A model of transformers for any modality."""

    model: Any

    def stack(self) -> nn.Module:
        return stack_of(self.model)

    def blocks(self) -> list[list[nn.Parameter]]:
        return blocks_of(self.model, self.stack())

    def checkpoint_gradients(self) -> None:
        try:
            self.model.activation_checkpointing_enable({"use_reentrant": False})
        except ValueError as error:
            kind, where = type(self.model).__name__, f"model.{self.modality}.grad_checkpointing"
            raise UserError(f"{where}: transformers' {kind} does not support it; leave it out") from error


def stack_of(model: nn.Module) -> nn.Module:
    """The list of layers. Its name varies between models, but it is the first list."""
    return next(part for part in model.modules() if isinstance(part, nn.ModuleList))


def blocks_of(model: nn.Module, stack: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of a stack by block. The last block includes all that follows the stack in the model."""
    groups = [list(block.parameters()) for block in stack.children()]
    ordered = list(model.parameters())
    end = next(place for place, parameter in enumerate(ordered) if parameter is groups[-1][-1])
    groups[-1] += ordered[end + 1 :]
    return groups


def check_options(modality: str, name: str, options: Iterable[str], known: tuple[str, ...] = ()) -> None:
    """`name`: the encoder, as in a recipe. `known`: its options."""
    for option in options:
        if option not in known:
            fix = did_you_mean(option, known) if known else f"`{name}` has no options; leave it out"
            raise UserError(f"model.{modality}.options: unknown option `{option}`; {fix}")
