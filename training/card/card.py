"""Writes the card of an exported folder: `README.md`, with the front matter that a hub reads.

Nothing is guessed. What the run's folder does not say is said to be unknown.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tercet.models.multimodal import Multimodal
from tercet.models.space import SpaceConfig
from tercet.provenance import facts
from tercet.training.card.markdown import UNKNOWN, code, front_matter, table
from tercet.training.card.run import RunFacts
from tercet.training.card.sections import (
    curation_section,
    data_section,
    evaluation_section,
    model_section,
    objective_section,
    training_section,
)

CARD = "README.md"
LICENSE = "unknown"
LIBRARIES = {"open_clip": "open_clip", "transformers": "transformers", "onnx": "onnx"}  # others: tercet
TERCET = """
import tercet

model = tercet.load("{source}")
z = model.embed({inputs})
print(z.{first} @ z.{last}.T)
"""
OPEN_CLIP = """
import open_clip, torch
from PIL import Image

model, _, preprocess = open_clip.create_model_and_transforms("local-dir:FOLDER")  # from a hub: hf-hub:OWNER/NAME
tokenizer = open_clip.get_tokenizer("local-dir:FOLDER")
with torch.no_grad():
    image = model.eval().encode_image(preprocess(Image.open("boat.jpg"))[None], normalize=True)
    text = model.encode_text(tokenizer(["a red boat"]), normalize=True)
print(image @ text.T)
"""
TRANSFORMERS = """
import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor

model, processor = AutoModel.from_pretrained("FOLDER").eval(), AutoProcessor.from_pretrained("FOLDER")
inputs = processor(text=["a red boat"], images=Image.open("boat.jpg"), padding={padding}, return_tensors="pt")
with torch.no_grad():
    print(model(**inputs).logits_per_image)
"""
CLAP = """
import soundfile, torch
from transformers import AutoModel, AutoProcessor

model, processor = AutoModel.from_pretrained("FOLDER").eval(), AutoProcessor.from_pretrained("FOLDER")
wave, rate = soundfile.read("horn.wav")  # 48,000 samples a second
inputs = processor(text=["a horn"], audio=wave, sampling_rate=rate, padding=True, return_tensors="pt")
with torch.no_grad():
    print(model(**inputs).logits_per_audio)
"""
GIVEN = {"image": 'image=["boat.jpg"]', "audio": 'audio=["horn.wav"]', "text": 'text=["a red boat"]'}


@dataclass(frozen=True)
class About:
    """What a person adds to a card, and what the export knows."""

    name: str
    format: str
    averaged: bool = True
    license: str = LICENSE
    datasets: Sequence[str] = ()
    left_out: Sequence[str] = field(default_factory=tuple)


def card(model: Multimodal, config: SpaceConfig, run: RunFacts | None, about: About) -> str:
    """The text of the card."""
    modalities = list(model.towers)
    of = ", ".join(modalities[:-1]) + f" and {modalities[-1]}" if len(modalities) > 1 else modalities[0]
    lines = [
        *front_matter(_front(about, modalities)),
        f"# {about.name}",
        "",
        f"A model that embeds {of} into one space, trained with tercet." if run else f"A model that embeds {of}.",
        "",
        *_usage(about, modalities, model),
        *model_section(model, config),
        *data_section(run),
        *curation_section(run),
        *objective_section(model, config),
        *training_section(run, about.averaged),
        *evaluation_section(run, about.averaged),
        *_license(about, config),
        *_left_out(about),
        *_versions(run),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


def _front(about: About, modalities: Sequence[str]) -> dict[str, object]:
    tags = ["contrastive", "feature-extraction", *modalities] + ([about.format] if about.format in LIBRARIES else [])
    pictures = {"image", "text"} <= set(modalities)
    values: dict[str, object] = {
        "license": about.license,
        "library_name": LIBRARIES.get(about.format, "tercet"),
        "pipeline_tag": "zero-shot-image-classification" if pictures else "feature-extraction",
        "tags": tags,
    }
    return values | ({"datasets": list(about.datasets)} if about.datasets else {})


def _usage(about: About, modalities: Sequence[str], model: Multimodal) -> list[str]:
    """Code that loads the folder, in the library of the format and in tercet."""
    lines = ["## Use", ""]
    if about.format == "open_clip":
        lines += ["With open_clip:", "", *code("python", OPEN_CLIP)]
    if about.format == "transformers":
        lines += ["With transformers:", "", *code("python", _transformers(modalities, model))]
    if about.format == "onnx":
        return [
            *lines,
            "The folder holds graphs for onnxruntime, one for each tower. `USAGE.md` says how to make their inputs.",
            "",
        ]
    kept = [one for one in modalities if about.format == "safetensors" or one in _held(modalities)]
    source = "hf:FOLDER" if about.format == "transformers" else "FOLDER"
    inputs = ", ".join(GIVEN[one] for one in kept if one in GIVEN)
    filled = TERCET.format(source=source, inputs=inputs, first=kept[0], last=kept[-1])
    return [*lines, "With tercet:", "", *code("python", filled)]


def _held(modalities: Sequence[str]) -> tuple[str, ...]:
    """The two towers that formats of other libraries hold."""
    return ("image", "text") if "image" in modalities else ("audio", "text")


def _transformers(modalities: Sequence[str], model: Multimodal) -> str:
    if "image" not in modalities:
        return CLAP
    sigmoid = type(getattr(model.tower("text"), "model", None)).__name__.startswith("Siglip")
    return TRANSFORMERS.format(padding='"max_length"' if sigmoid else "True")


def _license(about: About, config: SpaceConfig) -> list[str]:
    chosen = UNKNOWN if about.license == LICENSE else f"`{about.license}`, as stated by whoever exported the model"
    encoders = ", ".join(f"`{tower.encoder}`" for tower in config.model.towers.values())
    return [
        "## Licence",
        "",
        f"- The licence of these weights: {chosen}.",
        f"- The licences of the training data: {UNKNOWN}.",
        f"- The licences of the initial weights ({encoders}), if the towers did not start at random: {UNKNOWN}; see "
        "their own pages.",
        "",
    ]


def _left_out(about: About) -> list[str]:
    if not about.left_out:
        return []
    lines = [f"- {line}" for line in about.left_out]
    return ["## Left out", "", f"The format {about.format} cannot hold:", "", *lines, ""]


def _versions(run: RunFacts | None) -> list[str]:
    """The versions of the training and of the export. The machine is nobody's business."""
    exported = facts()
    trained = run.provenance if run else {}
    names = [name for name in exported if name != "machine"]
    rows = [(name, trained.get(name, UNKNOWN), exported[name]) for name in names]
    return ["## Versions", "", *table(("what", "in training", "in this export"), rows)]
