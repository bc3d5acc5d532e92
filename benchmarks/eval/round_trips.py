"""How far the vectors of an exported model are from those of the model, for each format and small random models.

`round_trips` writes each model, lets the other library read the folder, and reads it back by tercet. Exact weights are
those that are equal to the bit after tercet's own import.
"""

import json
import math
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import open_clip
import torch
from torch import Tensor

from tercet.api.export import export
from tercet.api.model import Model
from tercet.benchmarks.eval.onnx_towers import SMALL
from tercet.benchmarks.table import BenchRow
from tercet.models.export.reading import Samples
from tercet.models.interop.clip_names import to_open_clip
from tercet.models.interop.folder import export_folder
from tercet.models.multimodal import Multimodal, build_model
from tercet.models.space import SpaceConfig
from tercet.training.pretrained import load_model

NAME = "tercet-round-trip"
CLIP = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
TOWERS = {"image": {"encoder": f"open_clip:{NAME}"}, "text": {"encoder": f"open_clip:{NAME}"}}
PAIRED: dict[str, Any] = {"model": TOWERS, "pairs": {"image-text": 1.0}}
TRIPS: Mapping[str, tuple[dict[str, Any], Callable[[Path], str]]] = {  # format: the model, how tercet names the folder
    "safetensors": (SMALL, str),
    "open_clip": ({**PAIRED, "objective": "sigmoid"}, str),
    "transformers": (PAIRED, lambda folder: f"hf:{folder}"),
}


def rows(options: Namespace) -> list[BenchRow]:
    """The larger of the two differences of each format; infinite if a weight is not equal."""
    return [
        BenchRow(
            f"round trip of {trip.format}",
            max(trip.theirs or 0.0, trip.ours) if trip.exact_weights else math.inf,
            peer_name=None if trip.theirs is None else trip.format,
            beyond={"as the other library reads it": trip.theirs, "as tercet reads it": trip.ours},
        )
        for trip in round_trips(list(TRIPS))
    ]


@dataclass(frozen=True)
class RoundTrip:
    """The largest differences of a component of a vector: as the other library reads the folder, and as tercet does."""

    format: str
    theirs: float | None
    ours: float
    exact_weights: bool


def round_trips(formats: Sequence[str]) -> list[RoundTrip]:
    with TemporaryDirectory() as folder:
        (Path(folder) / f"{NAME}.json").write_text(json.dumps(CLIP), encoding="utf-8")
        open_clip.add_model_config(Path(folder) / f"{NAME}.json")
        return [_trip(format, *TRIPS[format], Path(folder)) for format in formats]


def _trip(format: str, values: dict[str, Any], named: Callable[[Path], str], folder: Path) -> RoundTrip:
    config = SpaceConfig.model_validate(values)
    model = build_model(config.model, config.terms, seed=1).eval()
    source = export_folder(model, config, folder / f"{format}-source")
    done = export(source, folder / format, format)
    again = load_model(named(done.folder))
    given = Samples()
    asked: dict[str, Any] = {modality: given.of(modality) for modality in model.towers}
    before, after = (Model(one, format).embed(**asked) for one in (model, again))
    return RoundTrip(
        format,
        done.difference,
        max(float((before[one] - after[one]).abs().max()) for one in model.towers),
        all(_equal(_weights(model, modality), _weights(again, modality)) for modality in model.towers),
    )


def _weights(model: Multimodal, modality: str) -> dict[str, Tensor]:
    """The weights of a tower; those of a half of CLIPModel by the names of open_clip."""
    tower: Any = model.tower(modality)
    weights: dict[str, Tensor] = (tower.model if hasattr(tower, "model") else tower).state_dict()
    return to_open_clip(modality, weights) if type(tower).__name__.startswith("Hf") else weights


def _equal(ours: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    return ours.keys() == others.keys() and all(torch.equal(value, others[name]) for name, value in ours.items())
