"""The vectors of a model for stored views of samples, which a run learns from instead of running the model.

    FOLDER/views.json                               the model, how the views are made, and the sources
    FOLDER/FINGERPRINT/000000000000.safetensors     the samples 0 to 1,023: `id` [n]; `seed` [n, K], from which all that
                                                    is random about a view follows; `image` and `audio` [n, K, d], zeros
                                                    where the sample has none; `text` [n, C, d] of all captions, and
                                                    `caption` [n, C], a hash of the tokens of each
    FOLDER/classes.safetensors                      with --classes: `vectors` [T, d] of these texts. A file then has
                                                    `image.class` and `image.score` [n, K, k] instead of vectors: the
                                                    most similar texts to each view, and their cosines (CED, Dinkel et
                                                    al. 2024)

This is the reinforced data set of MobileCLIP (Vasu et al. 2024), which stores the parameters of each augmentation.
Here, an augmentation is a function of one number, so only that is stored. Vectors have unit length and are stored in
fp16, which is more exact for them than the bf16 of the paper, or in fp32.

Shape letters: n samples of a piece, K views, C captions of a sample at most, d dimensions, T texts, k of them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from tercet.data_pipelines.columns import read_manifest
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.sample import Intake, TextIntake
from tercet.whole_file import write_json

MANIFEST = "views.json"
CLASSES, VECTORS = "classes.safetensors", "vectors"  # the file of the texts' vectors, and the name of the tensor
CLASS, SCORE = ".class", ".score"  # follow the name of a modality in the names of columns
SEED = "seed"  # the name of the keys of views
PIECE = 1024  # samples of one file

Stored = Literal["fp16", "fp32"]


@dataclass(frozen=True)
class SourceViews:
    """What the folder has of a source. `captions`: their places. `most`: how many captions a sample has at most.
    `complete`: of all samples."""

    samples: int
    modalities: tuple[str, ...]
    captions: tuple[str, ...]
    most: int
    complete: bool = False


@dataclass(frozen=True)
class ViewManifest:
    """The content of `views.json`. `made` are the keys of a recipe that decide how a view looks, with their values.
    `classes`: the texts whose scores are stored instead of vectors, if any."""

    model: str
    weights: str
    dim: int
    stored: Stored
    count: int
    made: Mapping[str, Any]
    classes: Sequence[str] = ()
    sources: Mapping[str, SourceViews] = field(default_factory=dict)

    @staticmethod
    def read(folder: Path) -> "ViewManifest":
        raw = read_manifest(folder / MANIFEST, "tercet embed MODEL --views RECIPE --out")
        sources = {
            name: SourceViews(**{**one, "modalities": tuple(one["modalities"]), "captions": tuple(one["captions"])})
            for name, one in raw.pop("sources").items()
        }
        return ViewManifest(**{**raw, "classes": tuple(raw["classes"])}, sources=sources)

    def write(self, folder: Path) -> None:
        write_json(folder / MANIFEST, asdict(self))


def how_made(data: DataConfig, intakes: Mapping[str, Intake]) -> dict[str, Any]:
    """The keys of a recipe that decide how the views of a sample look, with their values, as JSON has them."""
    keys = {
        "data.views.seed": data.views.seed if data.views else None,
        "data.crop": data.crop,
        "data.augment": data.augment.model_dump(mode="json"),
        "data.exact_images": data.exact_images,
    }
    media = {f"the input of {name}": repr(one) for name, one in intakes.items() if not isinstance(one, TextIntake)}
    made: dict[str, Any] = json.loads(json.dumps({**keys, **media}))
    return made


def differs(made: Mapping[str, Any], stored: Mapping[str, Any]) -> str:
    """The first key in which a run makes other views than those that are stored; empty if it makes the same."""
    for key, value in made.items():
        if value != stored.get(key):
            return f"{key} is {_shown(value)}, but the stored views have {_shown(stored.get(key))}"
    return ""


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
