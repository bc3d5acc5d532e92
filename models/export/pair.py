"""The part of a model that formats for two towers can hold: the towers, and the term that compares them.

Shape letters: D the width of a tower, J that of the joint space.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from tercet.errors import UserError
from tercet.modality import modality_of
from tercet.models.encoders.image import ImageEncoder
from tercet.models.head import module_name
from tercet.models.multimodal import Multimodal
from tercet.models.space import SpaceConfig

INSTEAD = "export it as safetensors"


@dataclass(frozen=True)
class Pair:
    """The logarithm of the inverse temperature, and the bias, of the term that compares two towers."""

    modalities: tuple[str, str]
    term: str | None
    log_scale: Tensor
    bias: Tensor | None
    left_out: list[str]


def pair_of(model: Multimodal, config: SpaceConfig, modalities: tuple[str, str], format: str) -> Pair:
    """The pair, or an error if the model lacks a tower or projects in a way that no other library knows."""
    for modality in modalities:
        if modality not in model.towers:
            raise UserError(f"format {format} needs a tower for {modality}, which the model lacks; {INSTEAD}")
        _check_head(model, config, modality, format)
    term = _term(config, modalities)
    if term is None:
        line = f"no term compares {' with '.join(modalities)}, so the temperature in the folder was not trained"
        untrained = next(iter(model.head.temperatures.values()))
        assert isinstance(untrained.log_scale, Tensor)
        return Pair(
            modalities, None, untrained.log_scale.new_zeros(()), None, [line, *_others(model, modalities, term)]
        )
    found = model.head.temperature_of(term)
    low, high = found.bounds
    return Pair(
        modalities,
        term,
        found.log_scale.detach().clamp(low, high).reshape(()),
        None if found.bias is None else found.bias.detach().reshape(()),
        list(_others(model, modalities, term)),
    )


def projection(model: Multimodal, modality: str) -> Tensor | None:
    """The matrix `[J, D]` from a tower into the joint space; None if the tower projects itself."""
    layer = model.head.projections[modality]
    return layer.weight.detach() if isinstance(layer, nn.Linear) else None


def refused(modality: str, encoder: str, format: str, reason: str = "") -> UserError:
    """The error for a tower that the format cannot express."""
    why = reason or f"{format} has no such tower"
    return UserError(f"format {format} cannot hold model.{modality} (`{encoder}`): {why}; {INSTEAD}")


def _check_head(model: Multimodal, config: SpaceConfig, modality: str, format: str) -> None:
    encoder, tower = config.model.towers[modality].encoder, model.tower(modality)
    if modality in model.head.adapters:
        raise refused(modality, encoder, format, "it has an `adapter`")
    if isinstance(model.head.projections[modality], nn.Sequential):
        raise refused(modality, encoder, format, "it is projected by an MLP")
    if isinstance(tower, ImageEncoder) and tower.intake.alpha:
        raise refused(modality, encoder, format, "it reads a mask (`alpha`)")


def _term(config: SpaceConfig, modalities: tuple[str, str]) -> str | None:
    """The term between the two modalities: one of their own fields if there is one, else the first."""
    found = {term.name: tuple(term.between) for term in config.terms}
    names = [name for name, between in found.items() if sorted(map(modality_of, between)) == sorted(modalities)]
    own = [name for name in names if sorted(found[name]) == sorted(modalities)]
    return next(iter((*own, *names)), None)


def _others(model: Multimodal, modalities: tuple[str, str], term: str | None) -> Iterator[str]:
    for modality in model.towers:
        if modality not in modalities:
            yield f"the {modality} tower"
    for other in model.terms:
        if other != term:
            yield f"the temperature of the term `{other}`"
    for other in model.terms:
        if module_name(other) in model.head.projectors:
            yield f"the projector of the term `{other}`"
