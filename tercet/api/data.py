"""The `data` argument: anything that `--data` takes, or a mapping that says how to read it."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from tercet.configs.base import build
from tercet.data_pipelines.config import DataConfig, SplitConfig
from tercet.data_pipelines.preflight.declared import check_source
from tercet.data_pipelines.shorthand import is_one
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.errors import UserError, did_you_mean
from tercet.eval.datasets import dataset_name, split_of
from tercet.training.checkpoints.by_name import run_and_checkpoint
from tercet.training.checkpoints.reader import CHECKPOINTS, CONFIG
from tercet.training.config import RunConfig
from tercet.training.pretrained import models_of, pretrained
from tercet.training.recipe import load_recipe

Data: TypeAlias = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Mapping[str, Any] | DataConfig


def run_of(model: str) -> RunConfig | None:
    """The config of the run, if the model is the folder of a run. Of several models, that of the first one."""
    folder, _ = run_and_checkpoint(models_of(model)[0])
    return load_recipe(str(folder / CONFIG)) if (folder / CHECKPOINTS).is_dir() else None


def looked_at(model: str, data: Data | None, split: str | None = None) -> DataConfig:
    """What to evaluate on, as the splits of `val`: all of the data, read as the model's run reads its own; without any,
    what the run held out, or with the split `train`, what it was trained on."""
    if data is not None and split is not None:
        raise UserError("`split` names a split of the run's own data; leave it out, or leave out the data")
    return _checked(_own(model, split or "val") if data is None else _whole(run_of(model), data))


def read_plainly(data: Data) -> DataConfig:
    """All of the data as a split of `val`, read as no run's settings say."""
    return _checked(_whole(None, data))


def _checked(found: DataConfig) -> DataConfig:
    sources = OpenedSources()
    for source in found.val.values():
        check_source(source, sources)
    return found


def _whole(run: RunConfig | None, data: Data) -> DataConfig:
    """The data under a name of its own. Nothing is trained here, so that `train` may name the same."""
    if isinstance(data, DataConfig):
        return data
    given = _said(data)
    if given and not is_one(given, {*SplitConfig.model_fields, *DataConfig.model_fields}):
        given = {"val": {name: split_of(_said(one)) for name, one in given.items()}}
    elif "source" in given:
        given = split_of(given)
    elif isinstance(given.get("val"), Mapping) and "source" not in given["val"]:
        given["val"] = {name: split_of(_said(one)) for name, one in given["val"].items()}
    split = {key: given.pop(key) for key in list(given) if key in SplitConfig.model_fields}
    settings = run.data.model_dump(mode="json") if run else {}
    if "source" not in split and "val" not in given:
        raise UserError(
            "data: `source` is missing; give a table, a folder or shards, such as {'source': 'photos.csv', …}"
        )
    seen = given.pop("val", split)
    config = build(DataConfig, {**settings, **given, "train": seen, "val": seen}, lambda key: "data")
    named = {dataset_name(config.val["val"].source): config.val["val"]} if split else config.val
    return config.model_copy(update={"val": named})


def _said(data: Any) -> dict[str, Any]:
    if isinstance(data, Mapping):
        return dict(data)
    if isinstance(data, str | os.PathLike):
        return {"source": os.fspath(data)}
    if isinstance(data, list | tuple):
        return {"source": list(map(os.fspath, data))}
    raise UserError(
        f"data is of type {type(data).__name__}; give a path, a list of paths, or a mapping such as {{'source': …}}"
    )


def _own(model: str, split: str) -> DataConfig:
    """A split of the data of the model's run."""
    if split not in ("val", "train"):
        raise UserError(f"split: `{split}` is not a split of a run; {did_you_mean(split, ('val', 'train'))}")
    run = run_of(model)
    if run is None:
        for name in models_of(model):
            pretrained(name)  # which says so where there is no such model
        raise UserError(f"{model} has no validation data of its own; name data to evaluate it on: --data D, or data=…")
    if split == "train":
        options = set(SplitConfig.model_fields)
        own = {name: SplitConfig(**source.model_dump(include=options)) for name, source in run.data.train.items()}
        return run.data.model_copy(update={"val": own})
    if not run.data.val:
        raise UserError(f"the run {model} has no validation data; name data to evaluate it on: --data D, or data=…")
    return run.data
