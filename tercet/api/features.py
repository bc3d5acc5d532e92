"""The outputs of a model's towers for data sets, from which runs train (`model.MODALITY.cached`)."""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tercet.api.data import Data, looked_at, read_plainly
from tercet.api.embed import check_folder
from tercet.api.model import Loadable, load, name_of
from tercet.configs.catalogue import recipe_names
from tercet.configs.layers import PLAIN, parse_override
from tercet.data_pipelines.config import DataConfig, SplitConfig
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.distributed import World, joined
from tercet.errors import UserError
from tercet.eval.embedding.write_features import FeatureWriter
from tercet.models.multimodal import Multimodal, build_model
from tercet.training.config import RunConfig
from tercet.training.initial_weights import begin
from tercet.training.preflight.complete import inherited
from tercet.training.recipe import load_recipe


@dataclass(frozen=True)
class Features:
    """What a folder of features has of each source: how many samples are stored, of how many, and the modalities."""

    folder: str
    sources: Mapping[str, Mapping[str, Any]]

    @property
    def summary(self) -> str:
        held = [
            f"{name}: {one['stored']:,} of {one['samples']:,} samples, {', '.join(one['modalities'])}"
            for name, one in self.sources.items()
        ]
        return "; ".join(held)

    @property
    def facts(self) -> dict[str, Any]:
        return {"sources": dict(self.sources)}


@dataclass(frozen=True)
class _Task:
    """What to embed: the towers of a model for these sources."""

    model: Multimodal
    name: str
    modalities: Collection[str]
    data: DataConfig
    splits: Mapping[str, SplitConfig]


def embed_features(
    model: Loadable, data: Data | None, out: str | os.PathLike[str], overrides: Sequence[str] = ()
) -> Features:
    """Writes the outputs of the towers to the folder `out`, which may hold those of other data by the same towers.

    `model`: a MODEL, all of whose towers embed `data`; or a recipe, whose locked towers embed its training data, or
    `data`. `overrides`: keys of the recipe. An interrupted call resumes, on any number of ranks.
    """
    check_folder(out)
    with joined() as world:
        if is_recipe(model):
            task = _of_recipe(name_of(model), data, overrides, world)
        else:
            task = _of_model(model, data, overrides, world)
        sources, found = OpenedSources(), {}
        opened = {name: sources.open_first(task.data, one, world) for name, one in task.splits.items()}
        writer = FeatureWriter(task.model, task.name, task.modalities, Path(out), world)
        for name, split in task.splits.items():
            one = writer.add(opened[name], task.data, split)
            found[name] = {"stored": one.stored, "samples": one.samples, "modalities": list(one.modalities)}
    return Features(os.fspath(out), found)


def is_recipe(model: Loadable) -> bool:
    """Whether this names a recipe, and no model."""
    if not isinstance(model, str | os.PathLike):
        return False
    name = os.fspath(model)
    return name in recipe_names() or (Path(name).suffix in (".yaml", ".yml") and Path(name).is_file())


def _of_recipe(recipe: str, data: Data | None, overrides: Sequence[str], world: World) -> _Task:
    """The locked towers of a recipe as a run begins with them, for its training data or for other data."""
    read_as = [text for text in overrides if data is not None and _root(text) in SplitConfig.model_fields]
    changes = [text for text in overrides if text not in read_as]
    config = inherited(load_recipe(recipe, changes)).stage(0)
    locked = [name for name, tower in config.model.towers.items() if tower.unlocked == 0]
    if not locked:
        raise UserError(f"{recipe} has no locked tower; lock one, such as model.image.unlocked=0, or name a model")
    splits: Mapping[str, SplitConfig] = config.data.train
    if data is not None:
        splits = read_plainly(_with(data, read_as)).val
    name = " ".join([recipe, *changes])
    return _Task(_begun(config, world), name, locked, config.data, splits)


def _of_model(model: Loadable, data: Data | None, overrides: Sequence[str], world: World) -> _Task:
    """All towers of a model."""
    if data is None:
        raise UserError("name the data to embed: --data D; only a recipe has data of its own")
    given, loaded = looked_at(name_of(model), _with(data, overrides)), load(model, world.device)
    return _Task(loaded.towers, loaded.name, loaded.modalities, given, given.val)


def _begun(config: RunConfig, world: World) -> Multimodal:
    """The model with the weights that a run of the recipe begins with."""
    model = build_model(config.model, config.terms, config.seed)
    if origin := begin(config, world):
        origin.fill(model)
    return model.to(world.device)


def _with(data: Data, read_as: Sequence[str]) -> Data:
    """The data, read as these overrides say."""
    if not read_as:
        return data
    if not isinstance(data, str | os.PathLike):
        raise UserError("the data are a mapping, which says how they are read; write the keys there")
    return {"source": os.fspath(data), **PLAIN.stack([parse_override(text) for text in read_as])}


def _root(override: str) -> str:
    return override.partition("=")[0].partition(".")[0]
