"""A task says what is measured on the embeddings of a dataset. Each kind of task is registered by the module that
measures it."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sized
from hashlib import sha256
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from tercet.configs.base import Config
from tercet.configs.registry import Registry
from tercet.errors import did_you_mean
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable, TextEmbedder
from tercet.eval.measure import Measure
from tercet.modality import MODALITIES

OwnData = Annotated[
    str | None,
    Field(description="evaluated on these data, unless the command names some; a path from the folder of the file"),
]


class Task(Config, ABC):
    """What is measured on the embeddings of a dataset."""

    kind: str
    name: str
    title: str = Field(description="the title of its table")
    data: OwnData = None

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of its metrics, as far as they are known before the evaluation."""
        return ()

    @property
    def hashes(self) -> dict[str, str]:
        """Digests of what its results depend on, so that results of different tasks are not compared by mistake."""
        return {"task": digest(self.model_dump(mode="json", exclude={"name", "title", "data"}))}

    def lighter(self) -> "Task":
        """The same task for a self-test: quick, and content with some of the items."""
        return self

    def reordered(self) -> "Task":
        """The same task with its classes in another order, if it names some. Its results must be the same."""
        return self

    def informed(self, table: EmbeddingTable) -> EmbeddingTable | None:
        """The table of a self-test, with vectors that say the answers. None if the task knows no such vectors."""
        return None

    @abstractmethod
    def measure(self, table: EmbeddingTable, embed_text: TextEmbedder, config: EvalConfig) -> list[Measure]: ...


class TaskGroup(Config):
    """Several tasks under one name."""

    kind: Literal["group"]
    name: str
    tasks: tuple[str, ...] = Field(min_length=1, description="names of tasks or of groups, or paths of YAML files")
    average: bool = Field(False, description="also report the mean of the first metric of each task")
    metrics: dict[str, str] = Field(
        {},
        description="the metric that the average takes on a dataset, by its name, in place of the first one, such as "
        "{pets: mean_per_class_recall}",
    )
    title: str = Field("", description="the title of the average's table")
    data: OwnData = None


KINDS: Registry[type[Task] | type[TaskGroup]] = Registry("kind of task")
KINDS.register("group")(TaskGroup)


def _sensed(modality: str) -> str:
    known = MODALITIES - {"text"}
    if modality not in known:
        raise ValueError(f"`{modality}` is not a modality that captions describe; {did_you_mean(modality, known)}")
    return modality


Sensed = Annotated[str, AfterValidator(_sensed)]  # any modality but text


class WordedTask(Task):
    """A task that compares pictures, sounds or other media with text."""

    modalities: tuple[Sensed, ...] = Field(
        (), description="modalities that are compared with text; empty: all but text"
    )

    def used_modalities(self, table: EmbeddingTable) -> list[str]:
        """The modalities of a table that the task uses."""
        return [one for one in table.modalities if one != "text" and one in (self.modalities or table.modalities)]


def digest(value: object) -> str:
    """Twelve letters that identify a value of plain types."""
    return sha256(json.dumps(value).encode()).hexdigest()[:12]


def hashes_by_name(tasks: Iterable[Task]) -> dict[str, dict[str, str]]:
    """The hashes under each name. Several tasks may have one name, such as `zero_shot` of pictures and of sounds: then
    a hash is that of all of theirs."""
    found: dict[str, dict[str, list[str]]] = {}
    for task in tasks:
        for key, value in task.hashes.items():
            found.setdefault(task.name, {}).setdefault(key, []).append(value)
    return {
        name: {key: values[0] if len(set(values)) == 1 else digest(values) for key, values in each.items()}
        for name, each in found.items()
    }


class NoValue(LookupError):
    """The `meta` of a sample has nothing at a path."""


def lookup(meta: Mapping[str, object], path: str) -> object:
    """The value at a path such as `objects[0].shape`, or in the column of this name. Raises NoValue if there is none,
    or null."""
    found: Any = meta
    try:
        for key, index in [(path, "")] if path in meta else re.findall(r"([^.\[\]]+)|\[(\d+)\]", path):
            found = found[key] if key else found[int(index)]
    except (KeyError, IndexError, TypeError) as error:
        raise NoValue(path) from error
    if found is None:
        raise NoValue(path)
    return found


def has_entries(meta: Mapping[str, object], count: Mapping[str, int]) -> bool:
    """Whether the list at each path has this many entries. Raises NoValue if a path has no list."""
    return all(_entries(meta, path) == number for path, number in count.items())


def _entries(meta: Mapping[str, object], path: str) -> int:
    listed = lookup(meta, path)
    if not isinstance(listed, Sized):
        raise NoValue(path)
    return len(listed)
