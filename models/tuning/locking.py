"""Locked-image tuning (Zhai et al. 2022) and its half-way houses: which part of a tower is trained."""

from collections.abc import Iterator
from itertools import chain

from torch import nn

from tercet.errors import UserError
from tercet.models.encoders.encoder import Encoder


def lock(encoder: Encoder, unlocked: int | None) -> None:
    """Train the last `unlocked` blocks alone: with 0 nothing of the tower moves, with None all of it does.

    The final norm and projection go with the last block, the stem is trained only where nothing is locked. Locked parts
    stay in evaluation mode, so that no dropout and no running statistics act in them.
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
    """A module without parameters, as dropout, goes with the one around it."""
    parameters = list(module.parameters())
    if parameters:
        locked = not any(parameter.requires_grad for parameter in parameters)
    if locked:
        yield module
    for child in module.children():
        yield from _locked_modules(child, locked)
