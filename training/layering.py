"""How the layers of a recipe merge: which keys replace each other, and the short forms of sources and components."""

from typing import Any

from tercet.configs.layers import Layering
from tercet.data_pipelines.config import SourceConfig
from tercet.data_pipelines.shorthand import alike, as_source, spelt


def _data(below: Any, above: Any) -> tuple[Any, Any]:
    """Writes a single source as a mapping, so that the other options of the lower layer stay."""
    below, above = spelt(below), spelt(above)
    return below, as_source(below, above, SourceConfig.model_fields)


def _sources(below: Any, above: Any) -> tuple[Any, Any]:
    return alike(below, above, SourceConfig.model_fields)


RECIPE = Layering(
    replaces={
        "pairs": ("terms",),
        "terms": ("pairs", "objective"),
        "stages": ("steps", "epochs"),
        "epochs": ("steps",),
        "steps": ("epochs",),
        "source": ("train", "val"),
        "train": ("source", "held_out"),
    },
    bare={"objective": "name", "selection": "name"},
    spelling={"data": _data, "train": _sources, "val": _sources},
)
