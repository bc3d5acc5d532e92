"""One typed registry for everything that a config chooses by name."""

from collections.abc import Callable
from typing import Generic, TypeVar

from tercet.errors import UserError, did_you_mean

T = TypeVar("T")
Entry = TypeVar("Entry")


class Registry(Generic[T]):
    """Names to components of one kind: a duplicate name raises, an unknown one gets suggestions."""

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
