"""The interface of a language model."""

from collections.abc import Mapping, Sequence
from typing import Protocol


class NoAnswer(Exception):
    """A request that got no answer in all tries. It is asked again when the command is called again."""


class LanguageModel(Protocol):
    """`batch`: how many prompts it takes at a time."""

    batch: int
    name: str

    @property
    def identity(self) -> Mapping[str, object]:
        """What decides its answers, besides the prompt."""
        ...

    def complete(self, prompts: Sequence[str]) -> list[str]:
        """The answer to each prompt. Raises `NoAnswer`, or `UserError` if no prompt will get one."""
        ...
