"""Which part of which model of transformers is a tower of ours: halves of CLIP, SigLIP and CLAP, and single encoders.

A half ends in the joint space of the whole, so the head adds no projection to it.
"""

from dataclasses import dataclass
from typing import Any

from transformers import MODEL_MAPPING

from tercet.errors import UserError
from tercet.models.encoders.hf.folder import load


@dataclass(frozen=True)
class ModelPart:
    """The class that loads it, the entry of the whole's configuration that describes it, and its vector's name."""

    kind: str
    within: str | None
    vector: str
    projects: bool = True

    @property
    def wraps(self) -> bool:
        """Whether the class is a trunk with a projection after it, rather than a trunk alone."""
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
    """The part that serves a modality; None for an encoder of that modality alone."""
    return PARTS.get((modality, architecture(config)))


def halves(kind: str) -> dict[str, ModelPart]:
    """Of a whole model, by modality."""
    return {modality: part for (modality, whole), part in PARTS.items() if whole == kind and part.within}


def load_part(where: str, name: str, part: ModelPart, config: Any) -> Any:
    """The half with its weights; the whole decides how wide the joint space is."""
    own = config if part.within is None else getattr(config, part.within)
    if part.within is not None and part.wraps:
        own.projection_dim = config.projection_dim
    return load(where, name, part.kind, own)


def width_of(config: Any, part: ModelPart | None) -> int:
    """Of the tower's vectors."""
    if part is not None and part.wraps:
        return int(config.projection_dim)
    return int(getattr(config, "projection_size", None) or config.hidden_size)


def architecture(config: Any) -> str:
    """What the folder says that it holds, and else what its type would be built as."""
    named: str = (config.architectures or [_class_of(config)])[0]
    return named


def check_reads(modality: str, name: str, config: Any) -> None:
    """Refuses a model of another modality, and one of several that has no halves here."""
    read = _modalities(config)
    if part_of(modality, config) or read == [modality] or (modality == "audio" and config.model_type == "whisper"):
        return
    kind, wanted = architecture(config), " and ".join(read) or "something else"
    known = ", ".join(WHOLES)
    mend = f"write it under model.{read[0]}" if len(read) == 1 else f"of several modalities, these are known: {known}"
    raise UserError(f"model.{modality}.encoder: `hf:{name}` is a {kind}, which reads {wanted}; {mend}")


def _modalities(config: Any) -> list[str]:
    whole = [modality for modality, held in PARTS if held == architecture(config)]
    if whole:
        return whole
    kind = MODEL_MAPPING.get(type(config), None)
    read = getattr(kind, "input_modalities", ())
    return [read] if isinstance(read, str) else list(read)


def _class_of(config: Any) -> str:
    kind = MODEL_MAPPING.get(type(config), None)
    return str(getattr(kind, "__name__", "model"))
