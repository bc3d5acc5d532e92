"""Data as Python code names them: anything that `--data` takes, or a mapping that says how it is read."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from tercet.configs.base import build
from tercet.data_pipelines.config import DataConfig, SplitConfig
from tercet.data_pipelines.preflight.declared import check_source
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.errors import UserError
from tercet.training.checkpoint_reader import CHECKPOINTS, CONFIG
from tercet.training.config import RunConfig
from tercet.training.pretrained import pretrained
from tercet.training.recipe import load_recipe

Data: TypeAlias = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Mapping[str, Any] | DataConfig


def run_of(model: str) -> RunConfig | None:
    """The config of the run that a model is named by, if it is one."""
    return load_recipe(str(Path(model) / CONFIG)) if (Path(model) / CHECKPOINTS).is_dir() else None


def looked_at(model: str, data: Data | None) -> DataConfig:
    """All of the data as one split, `val`, read as the model's run reads its own; without any, what that held out."""
    found = _held_out(model) if data is None else _whole(model, data)
    sources = OpenedSources()
    for split in found.val.values():
        check_source(split, sources)
    return found


def _whole(model: str, data: Data) -> DataConfig:
    """Nothing is trained here, so that `train` names what is there anyway."""
    if isinstance(data, DataConfig):
        return data
    given = _said(data)
    split = {key: given.pop(key) for key in list(given) if key in SplitConfig.model_fields}
    run = run_of(model)
    settings = run.data.model_dump(mode="json") if run else {}
    if "source" not in split and "val" not in given:
        raise UserError("data: `source` is missing, the table, folder or shards; write {'source': 'photos.csv', …}")
    seen = given.pop("val", split)
    return build(DataConfig, {**settings, **given, "train": seen, "val": seen}, lambda key: "data")


def _said(data: Any) -> dict[str, Any]:
    if isinstance(data, Mapping):
        return dict(data)
    if isinstance(data, str | os.PathLike):
        return {"source": os.fspath(data)}
    if isinstance(data, list | tuple):
        return {"source": list(map(os.fspath, data))}
    raise UserError(f"data are a path, several, or a mapping as {{'source': …}}, and not of type {type(data).__name__}")


def _held_out(model: str) -> DataConfig:
    run = run_of(model)
    if run is None:
        pretrained(model)  # which says so where there is no such model
        raise UserError(f"{model} holds out no data of its own; name what to evaluate it on: --data D, or data=…")
    if not run.data.val:
        raise UserError(f"the run {model} held out no data; name what to evaluate it on: --data D, or data=…")
    return run.data
