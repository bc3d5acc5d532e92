"""The vectors of a model as a column of a data set, which runs read instead of running the model."""

import os
from pathlib import Path

import torch

from tercet.api.data import Data, looked_at
from tercet.api.embed import check_folder, embed
from tercet.api.model import Loadable, Model, load, name_of
from tercet.configs.base import build
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.distributed import joined
from tercet.eval.store import Store
from tercet.eval.vector_column import TermTemperature, write_vectors
from tercet.modality import modality_of_vectors
from tercet.models.space import SpaceConfig
from tercet.training.pretrained import models_of, pretrained


def embed_column(model: Loadable, data: Data, out: str | os.PathLike[str], dims: int | None = None) -> Store:
    """Writes a vector of each sample to the folder `out`, for `selection.reference_vectors`. The folder may hold the
    vectors of other data by the same model. An interrupted call resumes, on any number of ranks."""
    check_folder(out)
    loaded = load(model, dims=dims)
    store = embed(loaded, data)
    given = looked_at(name_of(model), data)
    (split,) = given.val.values()
    with joined() as world:
        fingerprint = OpenedSources().open_first(given, split, world).fingerprint
        write_vectors(
            store, fingerprint, Path(out), loaded.towers, loaded.name, temperatures(loaded), world, split.captions
        )
    return store


def temperatures(model: Model) -> list[TermTemperature]:
    """Those of the model's terms. Several models that are concatenated have none."""
    if len(models_of(model.name)) > 1:
        return []
    found = pretrained(model.name)
    space = build(SpaceConfig, {"model": found.model, **found.terms}, lambda key: model.name)
    known = []
    for term in space.terms:
        with torch.no_grad():
            scale, bias = model.towers.head.temperature(term.name)
        modalities = tuple(sorted(set(map(modality_of_vectors, term.between))))
        known.append(TermTemperature(modalities, float(scale), None if bias is None else float(bias)))
    return known
