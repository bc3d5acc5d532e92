"""The interface of a language model."""

from collections.abc import Mapping, Sequence
from typing import Protocol


class NoAnswer(Exception):
    """A model did not answer a request, however often it was sent. The next call of the command sends it again."""


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
