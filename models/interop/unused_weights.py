"""Lists the pretrained weights that a model does not use, so that nothing is lost silently."""

from collections.abc import Iterable

from tercet.models.interop.pretrained import PROJECTORS, TEMPERATURES, Weights, origin_of
from tercet.models.multimodal import Multimodal

OF_TOWERS = ("towers", "head.projections", "head.adapters")


def unused_weights(model: Multimodal, weights: Weights) -> list[str]:
    """Each part once: a tower, the temperature or bias of a term, or another part by its name."""
    places = tuple(f"{part}.{modality}." for part in OF_TOWERS for modality in model.towers)
    taken = {name for term in model.terms for name in _taken(model, term, weights)}
    taken |= {name for name in model.state_dict() if name.startswith(PROJECTORS)}
    return sorted({_described(name) for name in weights if not name.startswith(places) and name not in taken})


def _taken(model: Multimodal, term: str, weights: Weights) -> Iterable[str]:
    """The names of the weights that set the temperature of a term."""
    kept = ("log_scale",) if model.head.temperature_of(term).bias is None else ("log_scale", "bias")
    return (f"{TEMPERATURES}{origin_of(term, weights)}.{name}" for name in kept)


def _described(name: str) -> str:
    for part in OF_TOWERS:
        if name.startswith(f"{part}."):
            return f"the {name.removeprefix(f'{part}.').partition('.')[0]} tower"
    if name.startswith(TEMPERATURES):
        term, _, what = name.removeprefix(TEMPERATURES).rpartition(".")
        return f"the {'bias' if what == 'bias' else 'temperature'} of {term}"
    if name.startswith(PROJECTORS):
        return f"the projector of {name.removeprefix(PROJECTORS).partition('.')[0]}"
    return f"`{name.partition('.')[0]}`"
