"""Registries of all components that a config chooses by name."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from tercet.errors import UserError, did_you_mean

T = TypeVar("T")
Entry = TypeVar("Entry")


class Registry(Generic[T]):
    """Components of one kind by name. Duplicate names raise an error, and unknown names get suggestions."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[Entry], Entry]:
        def add(entry: Entry) -> Entry:
            if name in self._entries:
                raise ValueError(f"two {self.kind}s are named `{name}`")
            self._entries[name] = entry  # type: ignore[assignment]
            return entry

        return add

    def get(self, name: str) -> T:
        if name not in self._entries:
            raise UserError(f"unknown {self.kind} `{name}`; {did_you_mean(name, self._entries)}")
        return self._entries[name]

    def names(self) -> list[str]:
        return sorted(self._entries)


def register_named(known: Registry[type[T]], name: str) -> Callable[[type[Entry]], type[Entry]]:
    """Registers a class whose fields are its config. It becomes a frozen dataclass."""

    def register(cls: type[Entry]) -> type[Entry]:
        return known.register(name)(dataclass(frozen=True)(cls))

    return register


def build_named(known: Registry[type[T]], name: str, options: Mapping[str, Any], beside: Collection[str] = ()) -> T:
    """Builds the dataclass of this name, with `options` as its fields.

    `beside`: keys that all components of this kind have, which errors suggest too.
    """
    cls: Any = known.get(name)
    taken = [field.name for field in fields(cls)]
    for option in options:
        if option not in taken:
            raise UserError(
                f"{known.kind} `{name}` has no option `{option}`; {did_you_mean(option, {*taken, *beside} - {'name'})}"
            )
    try:
        built: T = _adapter(cls).validate_python(options)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{known.kind}.{first['loc'][0]} = {first['input']!r}: {first['msg']}") from None
    return built


@cache
def _adapter(cls: type[T]) -> TypeAdapter[T]:
    """Once for each class, because it takes milliseconds."""
    return TypeAdapter(cls)
