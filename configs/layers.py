"""A recipe is a stack of layers: what it extends, itself, the command line. The upper layer wins, key by key."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tercet.configs.yaml_text import read_yaml
from tercet.data_pipelines.config import SourceConfig
from tercet.data_pipelines.shorthand import alike, spelt
from tercet.errors import UserError

# Two ways to say one thing: the key of an upper layer takes the place of these below it.
REPLACES = {
    "pairs": ("terms",),
    "terms": ("pairs", "objective"),
    "stages": ("steps", "epochs"),
    "epochs": ("steps",),
    "steps": ("epochs",),
    "source": ("train", "val"),
    "train": ("source", "held_out"),
}
BARE = {"objective": "name"}  # a component with nothing set may be written as its bare name
SOURCES = ("train", "val")


@dataclass(frozen=True)
class Layer:
    """Nested values and the place they were written in."""

    place: str
    values: Mapping[str, Any]

    def depth(self, key: str) -> int:
        """How many parts of a dotted key this layer spells."""
        found: Any = self.values
        parts = key.split(".")
        for depth, part in enumerate(parts):
            if not isinstance(found, Mapping) or part not in found:
                return depth
            found = found[part]
        return len(parts)


def parse_override(text: str) -> Layer:
    """`optimizer.lr=1e-3` as a layer; the value is YAML."""
    key, equals, value = text.partition("=")
    if not equals or not all(key.split(".")):
        raise UserError(f"command line: `{text}` is not an override; write key=value, as optimizer.lr=1e-3")
    return Layer("command line", nested(key, read_yaml(value, f"command line, `{text}`")))


def nested(key: str, value: Any) -> dict[str, Any]:
    """`a.b` and a value as `{a: {b: value}}`."""
    for part in reversed(key.split(".")):
        value = {part: value}
    result: dict[str, Any] = value
    return result


def written_in(layers: Sequence[Layer], key: str) -> str | None:
    """The place of the uppermost layer that spells the most of a key; nothing when none has a part of it."""
    best = max(reversed(layers), key=lambda layer: layer.depth(key))
    return best.place if best.depth(key) else None


def stack(layers: Sequence[Layer]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for layer in layers:
        values = lay(values, layer.values)
    return values


def lay(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` over `below`."""
    replaced = {old for new, value in above.items() if value is not None for old in REPLACES.get(new, ())}
    kept = {key: value for key, value in below.items() if key not in replaced}
    return kept | {key: _over(key, kept.get(key), value) for key, value in above.items()}


def _over(key: str, below: Any, above: Any) -> Any:
    if key == "data":
        below, above = spelt(below), spelt(above)  # what is known of the data besides still holds
    if key in SOURCES:
        below, above = alike(below, above, SourceConfig.model_fields)
    if not isinstance(above, Mapping):
        return above
    if isinstance(below, list) and all(str(index).isdecimal() and int(index) < len(below) for index in above):
        return [_over(key, value, above.get(str(index), value)) for index, value in enumerate(below)]
    if key in BARE and isinstance(below, str):
        below = {BARE[key]: below}
    if not isinstance(below, Mapping) or above.get("name", below.get("name")) != below.get("name"):
        below = {}  # another component: the old one's settings are not its own
    return lay(below, above)
