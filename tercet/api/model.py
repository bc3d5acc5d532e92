"""`tercet.load`: a trained model from any source, and its `embed`, which takes paths, bytes or arrays."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from tercet.api.media import files_of, is_picture, is_sound
from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.batches.batch_maker import BatchMaker
from tercet.data_pipelines.captions.text import cleaned
from tercet.data_pipelines.config import SplitConfig
from tercet.data_pipelines.decode.item import FileDecoder
from tercet.data_pipelines.sample import Sample
from tercet.data_pipelines.transforms.crop import CentreView
from tercet.errors import UserError, did_you_mean
from tercet.eval.embedding.embed import embed_batch
from tercet.models.export.onnx.load import is_onnx
from tercet.models.multimodal import Multimodal
from tercet.training.pretrained import KNOWN, load_model, models_of, pretrained


@dataclass(frozen=True)
class Embeddings:
    """Unit vectors by modality, `[n, d]` each: `z.image` or `z["image"]`."""

    vectors: Mapping[str, Tensor]

    def __getitem__(self, modality: str) -> Tensor:
        return self.vectors[modality]

    def __getattr__(self, name: str) -> Tensor:
        vectors: Mapping[str, Tensor] = vars(self).get("vectors", {})  # a copy has none at first
        if name not in vectors:
            raise AttributeError(f"there are no embeddings of `{name}`; {did_you_mean(name, vectors)}")
        return vectors[name]

    def __repr__(self) -> str:
        return "Embeddings(" + ", ".join(f"{name} {list(rows.shape)}" for name, rows in self.vectors.items()) + ")"


class Model:
    """A model in evaluation mode. `towers` is the module itself."""

    def __init__(self, towers: Multimodal, name: str, dims: int | None = None) -> None:
        """`dims`: cuts all vectors to their first dimensions, and normalises them anew."""
        self.towers, self.name = towers.eval(), name
        self.towers.head.dims = None
        if dims is not None and not 1 <= dims <= self.dim:
            raise UserError(f"dims is {dims}, but {name} has {self.dim} dimensions; give 1 to {self.dim}")
        self.towers.head.dims = dims

    @property
    def dims(self) -> int | None:
        """The number of dimensions to which the vectors are cut; None if they are whole."""
        return self.towers.head.dims

    @property
    def label(self) -> str:
        """The name, and the number of dimensions if the vectors are cut."""
        return self.name if self.dims is None else f"{self.name} ({self.dims} dimensions)"

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.towers.intakes)

    @property
    def device(self) -> torch.device:
        return next(self.towers.parameters()).device

    @property
    def dim(self) -> int:
        """The dimensions of the vectors."""
        return self.towers.head.dim if self.dims is None else self.dims

    def embed(self, *, batch_size: int = 256, **given: Any) -> Embeddings:
        """Unit vectors by modality: `text=["a boat"], image=[path | PIL | bytes | uint8 pixels],
        audio=[path | bytes | (wave, rate)]`. A single thing counts as a list of one."""
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}; give 1 or more")
        for modality in given:
            if modality not in self.modalities:
                raise UserError(f"{self.name} has no {modality} tower; {did_you_mean(modality, self.modalities)}")
        return Embeddings(
            {
                modality: self._vectors(modality, _listed(modality, things), batch_size)
                for modality, things in given.items()
            }
        )

    @torch.no_grad()
    def _vectors(self, modality: str, things: Sequence[Any], size: int) -> Tensor:
        intakes = {modality: self.towers.intakes[modality]}
        decode = FileDecoder(intakes, SplitConfig(source="given"))
        rows = [torch.empty(0, self.dim)]
        for start in range(0, len(things), size):
            some = enumerate(things[start : start + size], start)
            samples = [_sample(modality, place, thing, decode) for place, thing in some]
            rows.append(
                embed_batch(self.towers, BatchMaker(intakes).collate(samples).to(self.device)).vectors[modality]
            )
        return torch.cat(rows)

    def __repr__(self) -> str:
        return f"Model({self.name}: {', '.join(self.modalities)} → {self.dim} dimensions)"


Loadable: TypeAlias = str | os.PathLike[str] | Model


def load(model: Loadable, device: str | torch.device | None = None, dims: int | None = None) -> Model:
    """MODEL: a run's folder, an exported folder, `open_clip:NAME[/TAG or weights file]` or `hf:FOLDER`; `A+B` is one
    model with the vectors of both.

    By default, the model is on the first GPU, or on the CPU without a GPU. `dims` cuts all vectors to their first
    dimensions, for models that the objective matryoshka trained.
    """
    if isinstance(model, Model):
        if dims not in (None, model.dim):
            raise UserError(f"dims is {dims}, but {model.name} is loaded with {model.dim}; pass dims to `tercet.load`")
        model.towers.to(device or model.device)
        return model
    name, place = name_of(model), device or ("cuda" if torch.cuda.is_available() else "cpu")
    return Model(load_model(name).to(place), name, dims)


def check_model(model: Loadable) -> None:
    """Fails if there is no such model, before the long work with others begins."""
    if not isinstance(model, Model):
        for name in models_of(name_of(model)):
            if not is_onnx(Path(name)):
                pretrained(name)


def name_of(model: Loadable) -> str:
    if isinstance(model, Model):
        return model.name
    if not isinstance(model, str | os.PathLike):
        raise UserError(f"the model is of type {type(model).__name__}; give {KNOWN}, or a model from `tercet.load`")
    return os.fspath(model)


def _listed(modality: str, things: Any) -> Sequence[Any]:
    alone = isinstance(things, str | bytes | os.PathLike) or not hasattr(things, "__len__")
    alone |= (modality == "image" and is_picture(things)) or (modality == "audio" and is_sound(things))
    return [things] if alone else list(things)


def _sample(modality: str, place: int, thing: Any, decode: FileDecoder) -> Sample:
    if modality == "text":
        found = _text_sample(place, thing)
    else:
        found = decode.sample(str(place), place, files_of(modality, thing), CentreView())
    if isinstance(found, BadSample):
        named = thing if modality != "text" and isinstance(thing, str | os.PathLike) else f"number {place}"
        raise UserError(f"{modality} {named} cannot be embedded ({found.reason}); fix it, or leave it out")
    return found


def _text_sample(place: int, text: Any) -> Sample | BadSample:
    if not isinstance(text, str):
        raise UserError(f"text: {type(text).__name__} cannot be embedded; give strings")
    try:
        return Sample(str(place), place, place, text=(cleaned(text),))
    except BadSample as bad:
        return bad
