"""A recipe is a stack of layers: what it extends, itself, and the command line. Upper keys override lower ones."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tercet.configs.yaml_text import read_yaml
from tercet.errors import UserError

Spelling = Callable[[Any, Any], tuple[Any, Any]]  # brings two values of one key into the same form


@dataclass(frozen=True)
class Layer:
    """Nested values, and the place that sets them: a file or the command line."""

    place: str
    values: Mapping[str, Any]

    def depth(self, key: str) -> int:
        """How many parts of a dotted key this layer contains."""
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
        raise UserError(f"command line: `{text}` is not an override; write key=value, such as optimizer.lr=1e-3")
    return Layer("command line", nested(key, read_yaml(value, f"command line, `{text}`")))


def nested(key: str, value: Any) -> dict[str, Any]:
    """`a.b` and a value as `{a: {b: value}}`."""
    for part in reversed(key.split(".")):
        value = {part: value}
    result: dict[str, Any] = value
    return result


def written_in(layers: Sequence[Layer], key: str) -> str | None:
    """The place of the layer that contains most of a key; of several, the top one. None if no layer has any part."""
    best = max(reversed(layers), key=lambda layer: layer.depth(key))
    return best.place if best.depth(key) else None


@dataclass(frozen=True)
class Layering:
    """How to merge layers, beyond overriding equal keys.

    `replaces`: the keys that a key removes from lower layers, because they set the same thing. `bare`: the field that
    the bare name of a component sets. `spelling`: brings two values of a key into the same form before they merge.
    """

    replaces: Mapping[str, Sequence[str]] = field(default_factory=dict)
    bare: Mapping[str, str] = field(default_factory=dict)
    spelling: Mapping[str, Spelling] = field(default_factory=dict)

    def stack(self, layers: Sequence[Layer]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for layer in layers:
            values = self.lay(values, layer.values)
        return values

    def lay(self, below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
        """Merges `above` over `below`."""
        replaced = {old for new, value in above.items() if value is not None for old in self.replaces.get(new, ())}
        kept = {key: value for key, value in below.items() if key not in replaced}
        return kept | {key: self._over(key, kept.get(key), value) for key, value in above.items()}

    def _over(self, key: str, below: Any, above: Any) -> Any:
        if key in self.spelling:
            below, above = self.spelling[key](below, above)
        if not isinstance(above, Mapping):
            return above
        if isinstance(below, list) and all(str(index).isdecimal() and int(index) < len(below) for index in above):
            return [self._over(key, value, above.get(str(index), value)) for index, value in enumerate(below)]
        if key in self.bare and isinstance(below, str):
            below = {self.bare[key]: below}
        if not isinstance(below, Mapping) or above.get("name", below.get("name")) != below.get("name"):
            below = {}  # the settings of one component do not apply to another
        return self.lay(below, above)


PLAIN = Layering()
