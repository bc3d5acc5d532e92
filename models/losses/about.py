"""What people may read about an objective: its docstrings, and its options with their defaults and bounds."""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from inspect import cleandoc
from typing import Any

from pydantic import TypeAdapter

from tercet.configs.base import Component
from tercet.configs.yaml_text import write_yaml
from tercet.models.losses.objective import Objective, objective_class

SUMMARY = re.compile(r"(.+?)(?: \(([^()]*\d{4}[^()]*)\))?\.(?: |$)")
LEGEND = "Shapes: "  # begins the paragraph for those who read the code
KINDS = {"number": "number", "integer": "whole number", "boolean": "true | false", "string": "text", "null": "null"}
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
        """The default, as a recipe sets it: `alpha: 0.5`."""
        return write_yaml({self.name: _plain(self.default)}).strip()


def _plain(default: object) -> object:
    """A default in the types of YAML; numbers have four digits."""
    if isinstance(default, Component):
        return default.name
    if isinstance(default, tuple):
        return [_plain(value) for value in default]
    return float(f"{default:.4g}") if isinstance(default, float) else default


@dataclass(frozen=True)
class About:
    """An objective in one line, where it was published, and what its module says after its first paragraph.

    `options` are its own ones first, and then those of each base class, with a heading each.
    """

    name: str
    summary: str
    source: str
    text: str
    options: Sequence[tuple[str, Sequence[Option]]]


def about(name: str) -> About:
    cls = objective_class(name)
    _, *paragraphs = cleandoc(sys.modules[cls.__module__].__doc__ or "").split("\n\n")
    text = "\n\n".join(paragraph for paragraph in paragraphs if not paragraph.startswith(LEGEND))
    return About(name, *_summary(cls), text, _options(cls))


def _summary(cls: type) -> tuple[str, str]:
    """What the first sentence of the docstring says, and the source in its brackets."""
    found = SUMMARY.match(" ".join((cls.__doc__ or "").split()))
    return (found[1], found[2] or "") if found else ("", "")


def _options(cls: type[Objective]) -> list[tuple[str, list[Option]]]:
    """The options by the class that adds them. Descriptions that a class does not repeat are those of its bases."""
    classes = [base for base in cls.__mro__ if is_dataclass(base)]
    schemas = [TypeAdapter(base).json_schema()["properties"] for base in classes]
    defaults = {field.name: field.default for field in fields(cls)}
    groups = []
    for number, base in enumerate(classes):
        inherited = {field.name for below in classes[number + 1 :] for field in fields(below)}
        own = [
            Option(name, defaults[name], _allowed(schemas[0][name]), _meaning(schemas, name))
            for name in (field.name for field in fields(base))
            if name not in inherited
        ]
        if own:
            groups.append(("Options" if base is cls else _summary(base)[0], own))
    return groups


def _meaning(schemas: Sequence[Mapping[str, Any]], name: str) -> str:
    return next(filter(None, (schema.get(name, {}).get("description") for schema in schemas)), "")


def _allowed(schema: Mapping[str, Any]) -> str:
    """The values that a JSON schema allows, in words."""
    if "anyOf" in schema:
        return " | ".join(_allowed(part) for part in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(schema["enum"])
    if "prefixItems" in schema:
        return "two numbers"
    if schema.get("type") == "array":
        return f"[{_allowed(schema['items'])}, …]"
    kind = KINDS.get(schema.get("type", ""), "objective")
    return ", ".join([kind, *(f"{word} {schema[key]:g}" for key, word in BOUNDS.items() if key in schema)])
