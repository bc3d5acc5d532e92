"""`preprocess.json`: what each graph takes and gives, and how to make its inputs; and reading it back.

tercet prepares inputs in the same way for training, evaluation and these graphs, so that `Intake` says it all.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tercet.data_pipelines.sample import ArrayIntake, AudioIntake, ImageIntake, Intake, TextIntake
from tercet.errors import UserError
from tercet.models.config import TowerConfig
from tercet.models.encoder_names import split_encoder
from tercet.models.encoders.small import WordTokenizer

FILE, TOKENIZER = "preprocess.json", "tokenizer"


def described(intake: Intake, encoder: str, folder: Path) -> dict[str, Any]:
    """How to make the input of a tower. Writes the tokenizer of a text tower if it is one of transformers."""
    if isinstance(intake, ImageIntake):
        return {
            "size": list(intake.size), "resize": intake.resize, "interpolation": intake.interpolation,
            "channels": "RGBA" if intake.alpha else "RGB", "values": "0 to 255; the graph normalises them",
        }  # fmt: skip
    if isinstance(intake, AudioIntake):
        return {"rate": intake.rate, "channels": "mono", "values": "-1 to 1", "seconds": intake.seconds}
    if isinstance(intake, TextIntake):
        return {"context": intake.shape[0], TOKENIZER: _tokenizer(intake.tokenize, encoder, folder)}
    return {"shape": list(intake.shape), "dtype": intake.dtype}


def intake_of(modality: str, facts: dict[str, Any], folder: Path) -> Intake:
    """The intake that `described` described."""
    if "rate" in facts:
        return AudioIntake(facts["rate"], facts["seconds"])
    if TOKENIZER in facts:
        return TextIntake(_read(facts[TOKENIZER], facts["context"], folder))
    if "size" in facts:
        height, width = facts["size"]
        return ImageIntake((height, width), facts["interpolation"], facts["resize"], facts["channels"] == "RGBA")
    return ArrayIntake(tuple(facts["shape"]), facts["dtype"])


def _tokenizer(tokenize: Any, encoder: str, folder: Path) -> dict[str, Any]:
    family, name = split_encoder("text", encoder)
    if isinstance(tokenize, WordTokenizer):
        return {"kind": "words", "padding": 0}
    if family == "open_clip":
        return {"kind": "open_clip", "name": name}
    if hasattr(tokenize, TOKENIZER) and hasattr(tokenize, "filling"):
        tokenize.tokenizer.save_pretrained(folder / TOKENIZER)
        return {"kind": "transformers", "folder": TOKENIZER, "padding": tokenize.filling}
    return {"kind": type(tokenize).__name__}


def _read(facts: dict[str, Any], context: int, folder: Path) -> Any:
    if facts["kind"] == "words":
        return WordTokenizer(context)
    if facts["kind"] == "open_clip":
        from tercet.models.encoders.open_clip_models import tokenizer

        return tokenizer(facts["name"], TowerConfig(encoder=f"open_clip:{facts['name']}", context_length=context))
    if facts["kind"] == "transformers":
        from tercet.models.encoders.hf.folder import read_tokenizer
        from tercet.models.encoders.hf.tokens import PaddingTokenizer

        return PaddingTokenizer(read_tokenizer(str(folder / facts["folder"])), context, facts["padding"])

    def unknown(texts: list[str]) -> Tensor:
        raise UserError(f"{folder}: the tokenizer {facts['kind']} is that of a plugin; evaluate the model itself")

    return lambda texts: torch.zeros(1, context, dtype=torch.int64) if texts == [""] else unknown(texts)
