"""Tasks are data: one YAML file says what is asked of a model, and may inherit from another. Imports no torch."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from tercet.configs.base import Config
from tercet.configs.registry import Registry
from tercet.configs.yaml_text import read_yaml
from tercet.errors import UserError, did_you_mean
from tercet.modality import MODALITIES

if TYPE_CHECKING:
    from tercet.eval.config import EvalConfig
    from tercet.eval.embed import EmbeddingTable, TextEmbedder
    from tercet.eval.measure import Measure

FOLDER = Path(__file__).parent / "tasks"


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
    def measure(self, table: "EmbeddingTable", embed_text: "TextEmbedder", config: "EvalConfig") -> "list[Measure]": ...


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

    def asked(self, table: "EmbeddingTable") -> list[str]:
        """The modalities of a table that the task is about."""
        return [one for one in table.modalities if one != "text" and one in (self.modalities or table.modalities)]


@KINDS.register("retrieval")
class RetrievalTask(Task):
    """Every modality finds every other."""

    recall_at: tuple[int, ...] = Field((1, 5, 10), description="R@k for these k")

    @property
    def metrics(self) -> tuple[str, ...]:
        return (*(f"R@{k}" for k in self.recall_at), "median rank", "mean rank", "mAP@10")

    def measure(self, table: "EmbeddingTable", embed_text: "TextEmbedder", config: "EvalConfig") -> "list[Measure]":
        from tercet.eval.retrieval import retrieval

        return retrieval(table, self, config.candidates)


@KINDS.register("zero_shot")
class ZeroShotTask(WordedTask):
    """Which class an item belongs to, told by the nearest of the classes' prompt ensembles."""

    what: str = Field(description="what the classes are, as `shape`")
    label: str | None = Field(
        None,
        description="where an item's `meta` names its class, as `objects[0].shape`; nothing: its `label` or `class`, "
        "or else the one class that its caption names",
    )
    count: dict[str, int] = Field({}, description="only items with so many entries in `meta`, as `{objects: 1}`")
    where: dict[str, str] = Field({}, description="only items of which `meta` says so, as `{objects[0].size: large}`")
    classes: dict[str, str] = Field(description="the label in `meta` and how prompts word it")
    templates: tuple[str, ...] = Field(min_length=1, description="prompts; `{class}` stands for the class")
    fill: dict[str, tuple[str, ...]] = Field({}, description="words for other slots; every choice makes a prompt")

    @model_validator(mode="after")
    def _fillable(self) -> "ZeroShotTask":
        for template in self.templates:
            slots = {slot for _, slot, _, _ in Formatter().parse(template) if slot is not None}
            if "class" not in slots:
                raise ValueError(f"the template `{template}` has no place for a class; write it as {{class}}")
            unknown = slots - {"class", *self.fill}
            if unknown:
                raise ValueError(f"no words in `fill` for {{{', '.join(sorted(unknown))}}}")
        return self

    @property
    def metrics(self) -> tuple[str, ...]:
        return "acc1", "mean_per_class_recall", *(["acc5"] if len(self.classes) > 5 else [])

    def measure(self, table: "EmbeddingTable", embed_text: "TextEmbedder", config: "EvalConfig") -> "list[Measure]":
        from tercet.eval.zero_shot import zero_shot

        return zero_shot(table, embed_text, self)


@KINDS.register("composition")
class CompositionTask(WordedTask):
    """Whether the right caption beats one that is wrong on purpose."""

    undecidable: dict[Sensed, tuple[str, ...]] = Field(
        {}, description="kinds of mistakes that nothing in a modality gives away, as `{audio: [relation]}`"
    )

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("accuracy",)

    def measure(self, table: "EmbeddingTable", embed_text: "TextEmbedder", config: "EvalConfig") -> "list[Measure]":
        from tercet.eval.composition import composition

        return composition(table, embed_text, self)


def task_names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_tasks(asked: Iterable[str | Task]) -> list[Task]:
    """Tasks by name, groups written out; those that are no names are tasks already."""
    loaded: list[Task] = []
    for found in (load_task(one) if isinstance(one, str) else one for one in asked):
        loaded += load_tasks(found.tasks) if isinstance(found, TaskGroup) else [found]
    return loaded


def load_task(name: str) -> Task | TaskGroup:
    """A task or a group by its name, or by the path of a YAML file of one's own."""
    values = _read(name, ())
    if "kind" not in values:
        raise UserError(f"task `{name}`: `kind` is missing; {did_you_mean('', KINDS.names())}")
    try:
        return KINDS.get(str(values["kind"])).model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"task `{name}`: `{where}`: {first['msg'].lower()}") from None


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


def _read(name: str, heirs: tuple[str, ...]) -> dict[str, Any]:
    """The file's mapping over those that it extends."""
    if name in heirs:
        raise UserError(f"task `{name}` extends itself by way of {' → '.join(heirs)}")
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"unknown task `{name}`; {did_you_mean(name, task_names())}")
    own = read_yaml(path.read_text(encoding="utf-8"), f"task `{name}`")
    if not isinstance(own, dict):
        raise UserError(f"task `{name}`: {path.name} must hold a mapping with a `kind`")
    parent = own.pop("extends", None)
    inherited = {} if parent is None else _read(parent, (*heirs, name))
    return {**inherited, **own, "name": path.stem}
