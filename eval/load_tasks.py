"""Tasks by name: one YAML file is one task, and may extend another."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tercet.configs.base import build
from tercet.configs.yaml_text import read_yaml
from tercet.data_pipelines.manifests.find import SAVED
from tercet.data_pipelines.shards.address import is_url
from tercet.errors import UserError, did_you_mean
from tercet.eval import geometry  # noqa: F401  each registers its kind
from tercet.eval.classification import calibration, multi_label, zero_shot  # noqa: F401  each registers its kind
from tercet.eval.composition import composition, multi_object  # noqa: F401  each registers its kind
from tercet.eval.probes import few_shot, knn, linear_probe  # noqa: F401  each registers its kind
from tercet.eval.retrieval import combined, reduced, retrieval, similarity  # noqa: F401  each registers its kind
from tercet.eval.task import KINDS, Task, TaskGroup, WordedTask
from tercet.eval.task_files import FOLDER, task_names


def load_tasks(names: Iterable[str | Task]) -> list[Task]:
    """The tasks of these names, each once, with groups expanded. Tasks that are given as objects stay as they are."""
    loaded: list[Task] = []
    for task in _expanded(names):
        if task in loaded:
            continue
        if any(_have_same_results(task, other) for other in loaded):
            raise UserError(
                f"two different tasks are named `{task.name}`, so their results would have the same names; rename one"
            )
        loaded.append(task)
    return loaded


def _have_same_results(one: Task, other: Task) -> bool:
    """Whether results of both have the same names. Tasks of one name may be about different modalities."""
    ours, theirs = (set(task.modalities) if isinstance(task, WordedTask) else set() for task in (one, other))
    apart = ours and theirs and ours.isdisjoint(theirs)
    return (one.name, one.data) == (other.name, other.data) and not apart


def _expanded(names: Iterable[str | Task], above: tuple[str, ...] = ()) -> list[Task]:
    """`above`: the groups that these tasks are within."""
    loaded: list[Task] = []
    for found in (load_task(one) if isinstance(one, str) else one for one in names):
        if isinstance(found, Task):
            loaded.append(found)
        elif found.name in above:
            raise UserError(f"group `{found.name}` contains itself, through {' → '.join(above)}; leave it out of one")
        else:
            loaded += _expanded(found.tasks, (*above, found.name))
    return loaded


def names_within(name: str) -> set[str]:
    """The names of the tasks whose results belong to a task or a group: itself, and those within it. Of `zero_shot` and
    its heirs, both that of the group and those of its tasks, as the data decide which of them are evaluated."""
    found = load_task(name)
    inner = found.tasks if isinstance(found, TaskGroup) else ()
    averages = {one.name for one in map(load_task, inner) if isinstance(one, TaskGroup) and one.average}
    return {found.name, *({each for one in inner for each in names_within(one)} - averages)}


def load_task(name: str) -> Task | TaskGroup:
    """A task or a group by its name or by the path of a YAML file."""
    values = _read(name, ())
    kind = values.get("kind", "")
    if kind not in KINDS.names():
        problem = f"unknown kind of task `{kind}`" if kind else "`kind` is missing"
        raise UserError(f"task `{name}`: {problem}; {did_you_mean(str(kind), KINDS.names())}")
    return build(KINDS.get(kind), values, lambda key: f"task `{name}`")


def _read(name: str, heirs: tuple[str, ...]) -> dict[str, Any]:
    """The mapping in the file, laid over those that it extends. Paths in it are relative to its folder."""
    if name in heirs:
        raise UserError(f"task `{name}` extends itself through {' → '.join(heirs)}")
    path = _file(name)
    own = read_yaml(path.read_text(encoding="utf-8"), f"task `{name}`")
    if not isinstance(own, dict):
        raise UserError(f"task `{name}`: {path.name} must hold a mapping with a `kind`")
    if "name" in own:
        raise UserError(f"task `{name}`: the name of a task is that of its file; leave out `name`, or rename the file")
    parent = own.pop("extends", None)
    if not isinstance(parent, str | None):
        raise UserError(f"task `{name}`: `extends` is `{parent}`; give the name or the file of one task")
    inherited = {} if parent is None else _read(_beside(path, parent), (*heirs, name))
    if isinstance(tasks := own.get("tasks"), list):
        own["tasks"] = [_beside(path, one) if isinstance(one, str) else one for one in tasks]
    if isinstance(data := own.get("data"), str):
        own["data"] = _data_beside(path, data)
    return {**inherited, **own, "name": path.stem}


def _file(name: str) -> Path:
    """The YAML file of a task."""
    if not _is_file(name):
        path = FOLDER / f"{name}.yaml"
        if not path.is_file():
            raise UserError(f"unknown task `{name}`; {did_you_mean(name, task_names())}")
        return path
    if not Path(name).is_file():
        near = [str(path) for path in Path(name).parent.glob("*.y*ml")]
        hint = did_you_mean(name, near) if near else "paths are relative to where the command runs, or to the task file"
        raise UserError(f"the task file {name} does not exist; {hint}")
    return Path(name)


def _is_file(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))


def _beside(path: Path, name: str) -> str:
    """A task that a file names: a file by its path from the first one's folder, or a task that comes with tercet."""
    return str(path.parent / name) if _is_file(name) else name


def _data_beside(path: Path, data: str) -> str:
    """The data that a task file names, by their path from its folder, or by their URL."""
    saved = SAVED if data.startswith(SAVED) else ""
    return data if is_url(data) else f"{saved}{path.parent / data.removeprefix(saved)}"
