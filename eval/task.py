"""A task says what is measured on the embeddings of a data set. Each kind of task is registered by the module that
measures it."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from tercet.configs.base import Config
from tercet.configs.registry import Registry
from tercet.errors import did_you_mean
from tercet.eval.config import EvalConfig
from tercet.eval.embed import EmbeddingTable, TextEmbedder
from tercet.eval.measure import Measure
from tercet.modality import MODALITIES


class Task(Config, ABC):
    """What is asked of a model, and how it is measured on a data set's embeddings."""

    kind: str
    name: str
    title: str = Field(description="what people read above its numbers")

    @property
    def metrics(self) -> tuple[str, ...]:
        """Its numbers by name, as far as they are known before anything is measured."""
        return ()

    @abstractmethod
    def measure(self, table: EmbeddingTable, embed_text: TextEmbedder, config: EvalConfig) -> list[Measure]: ...


class TaskGroup(Config):
    """Several tasks under one name."""

    kind: Literal["group"]
    name: str
    tasks: tuple[str, ...]


KINDS: Registry[type[Task] | type[TaskGroup]] = Registry("kind of task")
KINDS.register("group")(TaskGroup)


def _sensed(modality: str) -> str:
    known = MODALITIES - {"text"}
    if modality not in known:
        raise ValueError(f"`{modality}` is nothing that captions are held against; {did_you_mean(modality, known)}")
    return modality


Sensed = Annotated[str, AfterValidator(_sensed)]  # whatever is no text


class WordedTask(Task):
    """A task that holds what was seen or heard against words."""

    modalities: tuple[Sensed, ...] = Field((), description="what is held against words; nothing: all but text")

    def asked(self, table: EmbeddingTable) -> list[str]:
        """The modalities of a table that the task is about."""
        return [one for one in table.modalities if one != "text" and one in (self.modalities or table.modalities)]


def lookup(meta: Mapping[str, object], path: str) -> object:
    """What stands at `objects[0].shape`; a KeyError or IndexError where nothing does."""
    found: Any = meta
    for key, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path):
        found = found[key] if key else found[int(index)]
    return found


def entries(meta: Mapping[str, object], path: str) -> int:
    """How many entries the list at `path` has."""
    listed: Any = lookup(meta, path)
    return len(listed)
