"""The datasets of an evaluation, and the tasks on each. A task is evaluated on the data that its file names, or else on
those that the run held out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

from tercet.data_pipelines.config import SplitConfig
from tercet.data_pipelines.manifests.find import SAVED
from tercet.data_pipelines.shards.address import is_url, redacted
from tercet.errors import UserError
from tercet.eval.load_tasks import load_task
from tercet.eval.own_classes import OwnClasses, benchmark_name, classes_of, shards_of, with_classes, with_labels
from tercet.eval.task import Task, TaskGroup

NONE = OwnClasses()


@dataclass(frozen=True)
class Dataset:
    """One dataset. `asked` are the tasks of the evaluation that use it, and `tasks` those, or the parts of groups among
    them, that are evaluated on it. `held_out`: by the run, so that classes in its recipe are those of this dataset."""

    split: SplitConfig
    tasks: Sequence[str | Task]
    asked: Sequence[str | Task]
    held_out: bool = False

    def classes(self, of_recipe: OwnClasses, given: OwnClasses = NONE) -> OwnClasses:
        """The classes of `zero_shot`: those given, or else those of the data."""
        own = classes_of(self.split.source)
        if own and given.templates:
            own = replace(own, templates=given.templates)
        return given or (of_recipe if self.held_out else own) or own or of_recipe

    def classified(self, of_recipe: OwnClasses, given: OwnClasses = NONE) -> list[str | Task]:
        """Its tasks, with these classes in place of `zero_shot`."""
        return with_classes(self.tasks, self.classes(of_recipe, given))


def datasets(tasks: Sequence[str | Task], val: Mapping[str, SplitConfig]) -> dict[str, Dataset]:
    """The datasets of these tasks by their names. `val`: those of the tasks whose files name no data."""
    named = _by_data(tasks)
    usual = named.pop(None, None)
    found = {name: Dataset(split, usual.tasks, usual.asked, True) for name, split in val.items()} if usual else {}
    for data, those in named.items():
        split = SplitConfig.model_validate(split_of(_existing(str(data), those.first)))
        name = dataset_name(split.source)
        found[str(data) if name in found else name] = Dataset(split, those.tasks, those.asked)
    return found


def all_name_data(tasks: Iterable[str | Task]) -> bool:
    """Whether no task needs data that a run held out."""
    return None not in _by_data(tasks)


def split_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """One dataset as a mapping. Of a folder of CLIP_benchmark, the shards that are for evaluation, and their labels."""
    source = data.get("source")
    shards = shards_of(Path(source)) if isinstance(source, str) else None
    return with_labels({**data, "source": str(shards)} if shards else data)


def dataset_name(source: str | tuple[str, ...]) -> str:
    """The last part of the path or URL, or the whole of a pattern."""
    first, *more = [source] if isinstance(source, str) else source
    if benchmark := benchmark_name(first):
        return benchmark
    first = redacted(first)
    name = first if set(first) & set("*?[{") else PurePath(first.rstrip("/")).name or first
    return f"{name} and {len(more)} more" if more else name


@dataclass
class _Named:
    """The tasks that name the same data, and the name of the first one."""

    first: str = ""
    tasks: list[str | Task] = field(default_factory=list)
    asked: list[str | Task] = field(default_factory=list)


def _by_data(tasks: Iterable[str | Task]) -> dict[str | None, _Named]:
    """The tasks by the data that their files name; None: by those that name none."""
    found: dict[str | None, _Named] = {}
    for asked in tasks:
        for data, part, name in _parts(asked, None):
            those = found.setdefault(data, _Named(name))
            those.tasks.append(part)
            if asked not in those.asked:
                those.asked.append(asked)
    return found


def _parts(asked: str | Task, above: str | None) -> list[tuple[str | None, str | Task, str]]:
    """A task, its data and its name; of a group whose tasks name several data, those of each of its tasks. `above`: the
    data that the group names."""
    task = load_task(asked) if isinstance(asked, str) else asked
    data = task.data or above
    if isinstance(task, TaskGroup):
        parts = [part for one in task.tasks for part in _parts(one, data)]
        if {found for found, _, _ in parts} != {data}:
            return parts
    return [(data, asked, task.name)]


def _existing(data: str, task: str) -> dict[str, Any]:
    plain = data.removeprefix(SAVED)
    if not (is_url(plain) or set(plain) & set("*?[{") or Path(plain).exists()):
        raise UserError(
            f"task `{task}`: its `data`, {data}, does not exist; give a path from the folder of the task file"
        )
    return {"source": data}
