"""The interface of every tower, and how `FAMILY:NAME` in a recipe becomes a tower.

Shape letters: n rows, H height, W width, T audio samples, L tokens, D the tower's width.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from typing_extensions import Self

from tercet.configs.registry import Registry
from tercet.data_pipelines.sample import Intake, channels_first
from tercet.errors import UserError, did_you_mean
from tercet.modality import MODALITIES
from tercet.models.config import TowerConfig
from tercet.models.encoder_names import split_encoder


class Encoded(NamedTuple):
    """What a tower makes of rows in one pass: the vectors of `forward`, and the tokens `[n, L, D]` of each row.

    The first `counts` `[n]` tokens of a row exist, at least one; the rest is padding. They are in the order of the
    input: the patches of a picture row by row, the frames of a sound in time, the words of a text. A tuple, because
    DeepSpeed finds no tensors in the results of a module that are objects of other kinds.
    """

    vectors: Tensor
    tokens: Tensor
    counts: Tensor


class Encoder(nn.Module, ABC):
    """The tower of one modality. It turns rows of `Field.values` into one vector per row.

    Images come as uint8 `[n, 3, H, W]` and are normalised inside, sounds as float `[n, T]` with their valid `lengths`
    `[n]`, text as int64 `[n, L]` from the tower's own tokenizer. Parts in `still` never leave evaluation mode.
    """

    modality: str
    width: int
    intake: Intake
    projects: bool = False  # its vectors are in a joint space already, so the head adds no projection
    still: tuple[nn.Module, ...] = ()

    @abstractmethod
    def forward(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        """`[n, D]`, not normalised."""

    def tokens(self, values: Tensor, lengths: Tensor | None = None) -> Encoded:
        """The vectors of `forward` and, from the same pass, the tokens: patches, frames or words. Not normalised.

        Tokens of a tower that `projects` are in the joint space, as its vectors are.
        """
        raise self.lacks_tokens()

    def lacks_tokens(self) -> UserError:
        """The error of a tower that has no tokens."""
        return UserError(
            f"model.{self.modality}.encoder: this tower has no tokens, only one vector for each row; choose another, "
            f"such as `small:{self.modality}`, or an objective that compares vectors, such as infonce"
        )

    def fit_positions(self, theirs: Tensor, places: int) -> Tensor | None:
        """`places` position embeddings for this tower, from those of weights that were trained with other inputs. None
        if that is not possible."""
        return None

    def blocks(self) -> list[list[nn.Parameter]]:
        """The parameters by block, from the input to the output. `unlocked: k` counts these blocks.

        The last block includes the final norm and projection. The stem belongs to no block.
        """
        return [list(self.parameters())]

    def checkpoint_gradients(self) -> None:
        """Recomputes activations in the backward pass from now on."""
        raise UserError(f"model.{self.modality}.grad_checkpointing: this tower does not support it; leave it out")

    def add_dropout(self, share: float) -> None:
        """Sets a share of the input of each block to zero while the tower trains."""
        raise UserError(f"model.{self.modality}.dropout: this tower takes its own in `options` only; leave it out")

    def add_alpha(self) -> None:
        """Gives a tower of pictures a fourth channel, a mask that says where to look."""
        raise UserError(f"model.{self.modality}.alpha: applies to image towers only; leave it out")

    def dummy(self, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """One row of values and lengths, for a rank without rows, which must run the tower all the same."""
        values = torch.zeros(1, *self.intake.shape, dtype=getattr(torch, self.intake.dtype), device=device)
        lengths = torch.tensor([values.shape[1]], device=device) if self.intake.ragged else None
        return channels_first(values, self.intake), lengths

    def embed(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Vectors for evaluation, where audio clips may have any length."""
        vectors: Tensor = self(values, lengths)
        return vectors

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for part in self.still:
            part.training = False
        return self


Build = Callable[[str, TowerConfig], Encoder]


class Families(dict[str, Registry[Build]]):
    """A registry of families for each modality, including those of plugins."""

    def __missing__(self, modality: str) -> Registry[Build]:
        if modality not in MODALITIES:
            raise UserError(f"unknown modality `{modality}`; {did_you_mean(modality, MODALITIES)}")
        return self.setdefault(modality, Registry(f"{modality} encoder family"))


FAMILIES = Families()


def family_of(modality: str, config: TowerConfig) -> tuple[Build, str]:
    """The function that builds the tower, and the name to call it with."""
    family, name = split_encoder(modality, config.encoder)
    return FAMILIES[modality].get(family), name


def build_encoder(modality: str, config: TowerConfig) -> Encoder:
    """Builds the tower that `config.encoder` names, in a form that DeepSpeed can train."""
    build, name = family_of(modality, config)
    encoder = build(name, config)
    if config.alpha:
        encoder.add_alpha()
    if config.dropout:
        encoder.add_dropout(config.dropout)
    _give_scalars_a_dimension(encoder)
    encoder.still += _batchnorms(encoder)
    return encoder


def _give_scalars_a_dimension(encoder: nn.Module) -> None:
    """DeepSpeed cannot flatten parameters without a dimension."""
    for module in encoder.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.ndim == 0:
                setattr(module, name, nn.Parameter(parameter.detach().reshape(1), parameter.requires_grad))


def check_batchnorm(encoder: Encoder, config: TowerConfig) -> None:
    """Rejects a tower with BatchNorm unless the recipe sets `frozen_batchnorm`.

    With batch statistics, a vector would depend on the other rows of its chunk, and so on the number of ranks. Frozen
    statistics differ from how such towers were trained, so the recipe must choose them.
    """
    if _batchnorms(encoder) and not config.frozen_batchnorm:
        raise UserError(
            f"model.{encoder.modality}.encoder: `{config.encoder}` has BatchNorm, so vectors depend on the batch; "
            f"set model.{encoder.modality}.frozen_batchnorm=true to train it with frozen statistics"
        )


def _batchnorms(encoder: Encoder) -> tuple[nn.Module, ...]:
    return tuple(module for module in encoder.modules() if isinstance(module, _BatchNorm))


def parameters_of(*parts: nn.Module | nn.Parameter | None) -> list[nn.Parameter]:
    """All parameters of modules and bare parameters, in order."""
    found: list[nn.Parameter] = []
    for part in parts:
        if part is not None:
            found += [part] if isinstance(part, nn.Parameter) else list(part.parameters())
    return found
