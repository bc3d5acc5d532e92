"""One value of a recipe and why it is what it is."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Choice:
    """`key` is dotted; the value is what YAML can say."""

    key: str
    value: Any
    why: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
