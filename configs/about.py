"""What people may read about a component: its options with their defaults, and which values each may have."""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import cleandoc
from typing import Any

from tercet.configs.base import Component
from tercet.configs.yaml_text import write_yaml

SUMMARY = re.compile(r"(.+?)(?: \(([^()]*\d{4}[^()]*)\))?\.(?: |$)")
LEGEND = ("Shapes: ", "Shape letters: ")  # begin the paragraph for those who read the code
KINDS = {
    "number": "number",
    "integer": "whole number",
    "boolean": "true | false",
    "string": "text",
    "null": "null",
    "object": "mapping",
}
BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


@dataclass(frozen=True)
class Option:
    """`allowed` says in words which values it may have."""

    name: str
    default: object
    allowed: str
    meaning: str

    @property
    def setting(self) -> str:
        """The default, as a YAML file sets it: `alpha: 0.5`. Without one, the name alone."""
        return f"{self.name}:" if self.default is ... else write_yaml({self.name: _plain(self.default)}).strip()


def _plain(default: object) -> object:
    """A default in the types of YAML; numbers have four digits."""
    if isinstance(default, Component):
        return default.name
    if isinstance(default, tuple):
        return [_plain(value) for value in default]
    return float(f"{default:.4g}") if isinstance(default, float) else default


@dataclass(frozen=True)
class About:
    """A component in one line, where it was published, and what its module says after its first paragraph.

    `options` are its own ones first, and then those of each base class, with a heading each.
    """

    name: str
    summary: str
    source: str
    text: str
    options: Sequence[tuple[str, Sequence[Option]]]


def summarised(cls: type) -> tuple[str, str]:
    """What the first sentence of the docstring says, and the source in its brackets."""
    found = SUMMARY.match(" ".join((cls.__doc__ or "").split()))
    return (found[1], found[2] or "") if found else ("", "")


def explained(cls: type) -> str:
    """What its module says after the first paragraph."""
    _, *paragraphs = cleandoc(sys.modules[cls.__module__].__doc__ or "").split("\n\n")
    return "\n\n".join(paragraph for paragraph in paragraphs if not paragraph.startswith(LEGEND))


def allowed(schema: Mapping[str, Any], other: str) -> str:
    """The values that a JSON schema allows, in words. `other`: what a value is that is none of YAML's own types."""
    if "anyOf" in schema:
        return " | ".join(allowed(part, other) for part in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(schema["enum"])
    if "prefixItems" in schema:
        return f"[{', '.join(allowed(part, other) for part in schema['prefixItems'])}]"
    if schema.get("type") == "array":
        return f"[{allowed(schema['items'], other)}, …]"
    kind = KINDS.get(schema.get("type", ""), other)
    return ", ".join([kind, *(f"{word} {schema[key]:g}" for key, word in BOUNDS.items() if key in schema)])
