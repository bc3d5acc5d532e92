"""One value of a recipe, and the reason for it."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Choice:
    """`key` is dotted; `value` can be written as YAML."""

    key: str
    value: Any
    why: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
