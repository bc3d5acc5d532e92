"""Tasks by name: one YAML file is one task, and may extend another."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tercet.configs.base import build
from tercet.configs.yaml_text import read_yaml
from tercet.errors import UserError, did_you_mean
from tercet.eval import (  # noqa: F401  each registers its kind of task
    combined,
    composition,
    few_shot,
    geometry,
    knn,
    linear_probe,
    multi_object,
    retrieval,
    similarity,
    zero_shot,
)
from tercet.eval.task import KINDS, Task, TaskGroup

FOLDER = Path(__file__).parent / "tasks"


def task_names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_tasks(names: Iterable[str | Task]) -> list[Task]:
    """The tasks of these names, with groups expanded. Tasks that are given as objects stay as they are."""
    loaded: list[Task] = []
    for found in (load_task(one) if isinstance(one, str) else one for one in names):
        loaded += load_tasks(found.tasks) if isinstance(found, TaskGroup) else [found]
    return loaded


def load_task(name: str) -> Task | TaskGroup:
    """A task or a group by its name or by the path of a YAML file."""
    values = _read(name, ())
    if "kind" not in values:
        raise UserError(f"task `{name}`: `kind` is missing; {did_you_mean('', KINDS.names())}")
    return build(KINDS.get(str(values["kind"])), values, lambda key: f"task `{name}`")


def _read(name: str, heirs: tuple[str, ...]) -> dict[str, Any]:
    """The mapping in the file, laid over those that it extends."""
    if name in heirs:
        raise UserError(f"task `{name}` extends itself through {' → '.join(heirs)}")
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"unknown task `{name}`; {did_you_mean(name, task_names())}")
    own = read_yaml(path.read_text(encoding="utf-8"), f"task `{name}`")
    if not isinstance(own, dict):
        raise UserError(f"task `{name}`: {path.name} must hold a mapping with a `kind`")
    parent = own.pop("extends", None)
    inherited = {} if parent is None else _read(parent, (*heirs, name))
    return {**inherited, **own, "name": path.stem}
