"""Tasks are data: one YAML file says what is asked of a model, and may inherit from another. Imports no torch."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from tercet.configs.base import Config
from tercet.errors import UserError, did_you_mean

FOLDER = Path(__file__).parent / "tasks"


class _Task(Config):
    name: str
    title: str = Field(description="what people read above its numbers")


class RetrievalTask(_Task):
    """Every modality finds every other."""

    kind: Literal["retrieval"]
    recall_at: tuple[int, ...] = Field((1, 5, 10), description="R@k for these k")


class ZeroShotTask(_Task):
    """Which class an item belongs to, told by the nearest of the classes' prompt ensembles."""

    kind: Literal["zero_shot"]
    what: str = Field(description="what the classes are, as `shape`")
    label: str | None = Field(
        None,
        description="where an item's `meta` names its class, as `objects[0].shape`; nothing: its `label` or `class`, "
        "or else the one class that its caption names",
    )
    count: dict[str, int] = Field({}, description="only items with so many entries in `meta`, as `{objects: 1}`")
    where: dict[str, str] = Field({}, description="only items of which `meta` says so, as `{objects[0].size: large}`")
    modalities: tuple[Literal["image", "audio"], ...] = Field(("image", "audio"), description="what is classified")
    classes: dict[str, str] = Field(description="the label in `meta` and how prompts word it")
    templates: tuple[str, ...] = Field(min_length=1, description="prompts; `{class}` stands for the class")
    fill: dict[str, tuple[str, ...]] = Field({}, description="words for other slots; every choice makes a prompt")

    @model_validator(mode="after")
    def _fillable(self) -> "ZeroShotTask":
        slots = {slot for template in self.templates for _, slot, _, _ in Formatter().parse(template) if slot}
        unknown = slots - {"class", *self.fill}
        if unknown:
            raise ValueError(f"no words in `fill` for {{{', '.join(sorted(unknown))}}}")
        return self


class CompositionTask(_Task):
    """Whether the right caption beats one that is wrong on purpose."""

    kind: Literal["composition"]
    modalities: tuple[Literal["image", "audio"], ...] = ("image", "audio")
    undecidable: dict[Literal["image", "audio"], tuple[str, ...]] = Field(
        {}, description="kinds of mistakes that nothing in a modality gives away, as `{audio: [relation]}`"
    )


class TaskGroup(Config):
    """Several tasks under one name."""

    kind: Literal["group"]
    name: str
    tasks: tuple[str, ...]


Task = RetrievalTask | ZeroShotTask | CompositionTask
_ADAPTER: TypeAdapter[Task | TaskGroup] = TypeAdapter(Annotated[Task | TaskGroup, Field(discriminator="kind")])


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
    try:
        return _ADAPTER.validate_python(_read(name, ()))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"][1:]) or "kind"
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
    own = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(own, dict):
        raise UserError(f"task `{name}`: {path.name} must hold a mapping with a `kind`")
    parent = own.pop("extends", None)
    inherited = {} if parent is None else _read(parent, (*heirs, name))
    return {**inherited, **own, "name": path.stem}
