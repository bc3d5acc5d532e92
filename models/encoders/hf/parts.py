"""Which part of a model from transformers becomes a tower: halves of CLIP, SigLIP and CLAP, or single encoders.

A half projects into the joint space of the whole model, so the head adds no projection.
"""

from dataclasses import dataclass
from typing import Any

from transformers import MODEL_MAPPING

from tercet.errors import UserError
from tercet.models.encoders.hf.folder import load


@dataclass(frozen=True)
class ModelPart:
    """The class that loads the part, its entry in the configuration of the whole model, and the name of its output."""

    kind: str
    within: str | None
    vector: str
    projects: bool = True

    @property
    def wraps(self) -> bool:
        """Whether the class is a trunk with a projection, instead of a trunk only."""
        return self.kind.endswith("WithProjection")


PARTS = {
    ("image", "CLIPModel"): ModelPart("CLIPVisionModelWithProjection", "vision_config", "image_embeds"),
    ("image", "CLIPVisionModelWithProjection"): ModelPart("CLIPVisionModelWithProjection", None, "image_embeds"),
    ("image", "CLIPVisionModel"): ModelPart("CLIPVisionModel", None, "pooler_output", projects=False),
    ("image", "SiglipModel"): ModelPart("SiglipVisionModel", "vision_config", "pooler_output"),
    ("image", "SiglipVisionModel"): ModelPart("SiglipVisionModel", None, "pooler_output", projects=False),
    ("audio", "ClapModel"): ModelPart("ClapAudioModelWithProjection", "audio_config", "audio_embeds"),
    ("audio", "ClapAudioModelWithProjection"): ModelPart("ClapAudioModelWithProjection", None, "audio_embeds"),
    ("audio", "ClapAudioModel"): ModelPart("ClapAudioModel", None, "pooler_output", projects=False),
    ("text", "CLIPModel"): ModelPart("CLIPTextModelWithProjection", "text_config", "text_embeds"),
    ("text", "CLIPTextModelWithProjection"): ModelPart("CLIPTextModelWithProjection", None, "text_embeds"),
    ("text", "CLIPTextModel"): ModelPart("CLIPTextModel", None, "pooler_output", projects=False),
    ("text", "SiglipModel"): ModelPart("SiglipTextModel", "text_config", "pooler_output"),
    ("text", "SiglipTextModel"): ModelPart("SiglipTextModel", None, "pooler_output", projects=False),
    ("text", "ClapModel"): ModelPart("ClapTextModelWithProjection", "text_config", "text_embeds"),
    ("text", "ClapTextModelWithProjection"): ModelPart("ClapTextModelWithProjection", None, "text_embeds"),
}
WHOLES = sorted({kind for (_, kind), part in PARTS.items() if part.within})


def part_of(modality: str, config: Any) -> ModelPart | None:
    """The part for a modality; None for an encoder of this modality only."""
    return PARTS.get((modality, architecture(config)))


def halves(kind: str) -> dict[str, ModelPart]:
    """The halves of a whole model, by modality."""
    return {modality: part for (modality, whole), part in PARTS.items() if whole == kind and part.within}


def load_part(where: str, name: str, part: ModelPart, config: Any) -> Any:
    """The half with its weights. The whole model sets the width of the joint space."""
    own = config if part.within is None else getattr(config, part.within)
    if part.within is not None and part.wraps:
        own.projection_dim = config.projection_dim
    return load(where, name, part.kind, own)


def width_of(config: Any, part: ModelPart | None) -> int:
    """The width of the tower's vectors."""
    if part is not None and part.wraps:
        return int(config.projection_dim)
    return int(getattr(config, "projection_size", None) or config.hidden_size)


def architecture(config: Any) -> str:
    """The class that the folder names, or the default class of its model type."""
    default = getattr(MODEL_MAPPING.get(type(config), None), "__name__", "model")
    return str((config.architectures or [default])[0])


def check_reads(modality: str, name: str, config: Any) -> None:
    """Rejects models of another modality, and models of several modalities that are not in `PARTS`."""
    read = _modalities(config)
    if part_of(modality, config) or read == [modality] or (modality == "audio" and config.model_type == "whisper"):
        return
    kind, wanted = architecture(config), " and ".join(read) or "something else"
    known = ", ".join(WHOLES)
    fix = f"write it under model.{read[0]}" if len(read) == 1 else f"of models that read several, use {known}"
    raise UserError(f"model.{modality}.encoder: `hf:{name}` is a {kind}, which reads {wanted}; {fix}")


def _modalities(config: Any) -> list[str]:
    whole = [modality for modality, held in PARTS if held == architecture(config)]
    if whole:
        return whole
    kind = MODEL_MAPPING.get(type(config), None)
    read = getattr(kind, "input_modalities", ())
    return [read] if isinstance(read, str) else list(read)
