"""The layers of a model of transformers: the blocks that are locked and counted, and their recomputation."""

from typing import Any

from torch import nn

from tercet.errors import UserError


def stack_of(model: nn.Module) -> nn.Module:
    """The parts bear various names, but all models hold one list of layers after the embeddings."""
    return next(part for part in model.modules() if isinstance(part, nn.ModuleList))


def blocks_of(model: nn.Module, stack: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of a stack by block; what comes after it in the model goes with the last one."""
    groups = [list(block.parameters()) for block in stack.children()]
    ordered = list(model.parameters())
    end = next(place for place, parameter in enumerate(ordered) if parameter is groups[-1][-1])
    groups[-1] += ordered[end + 1 :]
    return groups


def recompute(modality: str, model: Any) -> None:
    """Checkpoint the activations of every layer."""
    try:
        model.activation_checkpointing_enable({"use_reentrant": False})
    except ValueError as error:
        kind = type(model).__name__
        raise UserError(f"model.{modality}.grad_checkpointing: transformers' {kind} cannot; leave it out") from error
