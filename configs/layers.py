"""A recipe is a stack of layers: what it extends, itself, the command line. The upper layer wins, key by key."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tercet.configs.yaml_text import read_yaml
from tercet.errors import UserError

Spelling = Callable[[Any, Any], tuple[Any, Any]]  # two values of one key, written alike


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


@dataclass(frozen=True)
class Layering:
    """What the keys of an upper layer do to those below, besides taking their place.

    `replaces`: other keys that a key removes from the layer below, because both say the same thing. `bare`: the field
    that a component's bare name stands for. `spelling`: how two values of a key are written alike before they merge.
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
        """`above` over `below`."""
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
            below = {}  # another component does not take over the settings of the one below
        return self.lay(below, above)


PLAIN = Layering()
