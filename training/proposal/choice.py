"""One value of a recipe and why it is what it is; choices stack up to the values of a whole recipe."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import reduce
from typing import Any

from tercet.configs.layers import lay, nested


@dataclass(frozen=True)
class Choice:
    """`key` is dotted; the value is what YAML can say."""

    key: str
    value: Any
    why: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def values_of(choices: Iterable[Choice]) -> dict[str, Any]:
    layers = (nested(choice.key, choice.value) for choice in choices)
    return reduce(lay, layers, {})
