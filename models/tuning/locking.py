"""Locks a tower as a whole (locked-image tuning, Zhai et al. 2022) or all but its last blocks."""

from collections.abc import Iterator
from itertools import chain

from torch import nn

from tercet.errors import UserError
from tercet.models.encoders.encoder import Encoder


def lock(encoder: Encoder, unlocked: int | None) -> None:
    """Trains only the last `unlocked` blocks. 0 locks the whole tower, None trains all of it.

    The final norm and projection belong to the last block. The stem trains only with None. Locked parts stay in
    evaluation mode, without dropout and without updates of running statistics.
    """
    if unlocked is None:
        return
    blocks = encoder.blocks()
    if unlocked > len(blocks):
        raise UserError(
            f"model.{encoder.modality}.unlocked is {unlocked}, but the tower has {len(blocks)} blocks; "
            f"leave `unlocked` out to train all of it"
        )
    encoder.requires_grad_(False)
    for parameter in chain(*blocks[len(blocks) - unlocked :]):
        parameter.requires_grad_(True)
    encoder.still += tuple(_locked_modules(encoder, locked=unlocked == 0))
    encoder.train(encoder.training)


def _locked_modules(module: nn.Module, locked: bool) -> Iterator[nn.Module]:
    """All modules without a trainable parameter. Those without parameters, such as dropout, follow their parent."""
    parameters = list(module.parameters())
    if parameters:
        locked = not any(parameter.requires_grad for parameter in parameters)
    if locked:
        yield module
    for child in module.children():
        yield from _locked_modules(child, locked)
