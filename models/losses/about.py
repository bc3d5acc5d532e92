"""What people may read about an objective: its docstrings, and its options with their defaults and bounds."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import TypeAdapter

from tercet.configs.about import About, Option, allowed, explained, summarised
from tercet.models.losses.objective import Objective, objective_class


def about(name: str) -> About:
    cls = objective_class(name)
    return About(name, *summarised(cls), explained(cls), _options(cls))


def _options(cls: type[Objective]) -> list[tuple[str, list[Option]]]:
    """The options by the class that adds them. Descriptions that a class does not repeat are those of its bases."""
    classes = [base for base in cls.__mro__ if is_dataclass(base)]
    schemas = [TypeAdapter(base).json_schema()["properties"] for base in classes]
    defaults = {field.name: field.default for field in fields(cls)}
    groups = []
    for number, base in enumerate(classes):
        inherited = {field.name for below in classes[number + 1 :] for field in fields(below)}
        own = [
            Option(name, defaults[name], allowed(schemas[0][name], "objective"), _meaning(schemas, name))
            for name in (field.name for field in fields(base))
            if name not in inherited
        ]
        if own:
            groups.append(("Options" if base is cls else summarised(base)[0], own))
    return groups


def _meaning(schemas: Sequence[Mapping[str, Any]], name: str) -> str:
    return next(filter(None, (schema.get(name, {}).get("description") for schema in schemas)), "")
