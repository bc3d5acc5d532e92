"""Features: the outputs of towers by sample, which a run reads instead of running the towers.

    FOLDER/features.json                            the model, its towers, and the sources
    FOLDER/FINGERPRINT/000000000000.safetensors     the samples 0 to 65,535: `id` [n], `group` [n] and, for each
                                                    modality, `image` [n, D] in fp32 and `image.rows` [n]

`image.rows` says how many rows a sample has: 0 if it lacks the modality. `text` is [n, C, D], because a sample may have
several captions, of which a step draws one. `value.NAME` [n] are numbers of the samples, such as their relevance.
Samples are read as in evaluation: the centre of the picture, the whole sound. A sample that could not be read is in no
file, and is bad, as it is when a run decodes it.

Shape letters: n samples, C captions of a sample at most, D the width of a tower. Imports no torch.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tercet.data_pipelines.columns import read_manifest
from tercet.data_pipelines.source import Source
from tercet.data_pipelines.source_config import SplitConfig
from tercet.errors import UserError
from tercet.whole_file import write_json

MANIFEST = "features.json"
GROUP, ROWS, VALUE = "group", "rows", "value"
CAPTIONS = "text"  # the modality with several rows
READING = SplitConfig.model_fields.keys() - {"source", "fields", "part", "split_by"}


@dataclass(frozen=True)
class StoredTower:
    """The tower that made the outputs: a digest of it with its weights, and the width of its vectors."""

    digest: str
    width: int


@dataclass(frozen=True)
class StoredSource:
    """How many samples a source has, how many of them are stored, and how they were read.

    `values`: the places of the numbers of each sample, by name.
    """

    samples: int
    stored: int
    modalities: tuple[str, ...]
    reading: Mapping[str, Any]
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FeatureManifest:
    """The content of `features.json`. `model`: the model or recipe that was embedded."""

    model: str
    towers: Mapping[str, StoredTower]
    sources: Mapping[str, StoredSource] = field(default_factory=dict)

    @staticmethod
    def read(folder: Path, key: str) -> "FeatureManifest":
        """`key`: what names the folder in the recipe."""
        raw = read_manifest(folder / MANIFEST, "tercet embed RECIPE --format features --out", f"{key}: ")
        towers = {name: StoredTower(**one) for name, one in raw["towers"].items()}
        sources = {
            name: StoredSource(**{**one, "modalities": tuple(one["modalities"])})
            for name, one in raw["sources"].items()
        }
        return FeatureManifest(raw["model"], towers, sources)

    def write(self, folder: Path) -> None:
        write_json(folder / MANIFEST, asdict(self))


def check_features(
    key: str, modality: str, folder: Path, splits: Mapping[str, SplitConfig], sources: Mapping[str, Source]
) -> None:
    """Raises `UserError` if a folder lacks the features of a source, or if no source has any of this modality.

    `key`: what names the folder in the recipe.
    """
    manifest = FeatureManifest.read(folder, key)
    found = [checked(manifest, key, folder, source, splits[name]) for name, source in sources.items()]
    if not any(modality in one.modalities for one in found):
        raise UserError(f"{key}: no sample of the training data has {modality}; remove this key, or name other data")


def checked(manifest: FeatureManifest, key: str, folder: Path, source: Source, split: SplitConfig) -> StoredSource:
    """What a folder has of a source, which must be read as it was when it was embedded."""
    found = manifest.sources.get(source.fingerprint)
    if found and found.reading == reading(split):
        return found
    raise UserError(
        f"{key}: {folder} has no features of {where(split)} as this run reads it; {again(manifest, folder, split)}"
    )


def where(split: SplitConfig) -> str:
    return split.source if isinstance(split.source, str) else split.source[0]


def reading(split: SplitConfig) -> dict[str, Any]:
    """The options that decide how samples are read, without those that the fingerprint of the source covers."""
    return split.model_dump(mode="json", include=READING)


def again(manifest: FeatureManifest, folder: Path, split: SplitConfig) -> str:
    """The command that embeds a source as a run reads it."""
    plain = SplitConfig(source="any")
    options = {"part": split.part and list(split.part), **reading(split)}
    read_as = [
        f"{key}={json.dumps(value) if isinstance(value, list | dict) else value}".replace(" ", "")
        for key, value in options.items()
        if value is not None and value != reading(plain).get(key)
    ]
    words = " ".join([manifest.model, "--data", where(split), *read_as])
    return f"embed it: tercet embed {words} --format features --out {folder}"
