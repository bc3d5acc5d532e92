"""Data as Python code names them: anything that `--data` takes, or a mapping that says how it is read."""

import os
from collections.abc import Mapping
from typing import Any, TypeAlias

from tercet.configs.base import build
from tercet.data_pipelines.config import DataConfig, SplitConfig

Data: TypeAlias = str | os.PathLike[str] | Mapping[str, Any] | DataConfig


def whole(data: Data) -> DataConfig:
    """All of a data set as one split, `val`, to be looked at and not to be trained on."""
    if isinstance(data, DataConfig):
        return data
    given = dict(data) if isinstance(data, Mapping) else {"source": os.fspath(data)}
    split = {key: given.pop(key) for key in list(given) if key in SplitConfig.model_fields}
    return build(DataConfig, {"train": split, "val": split, **given}, lambda key: "data")
