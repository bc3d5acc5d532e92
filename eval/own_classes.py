"""The task `zero_shot` with classes that the user names, or that the data bring along.

CLIP_benchmark keeps each dataset in a folder: the shards of a split in a folder of that name, beside the names of the
classes and the templates of prompts.

    FOLDER/classnames.txt                            one class a line; `.cls` of a sample is a line number, from zero
    FOLDER/zeroshot_classification_templates.txt     one prompt a line, `{c}` is replaced by the class
    FOLDER/test/nshards.txt, 0.tar, 1.tar, …
    FOLDER/dataset_type.txt                          `multilabel`: samples have several classes each, in `.npy`

Its other folders, such as those for retrieval, have no classes. A dataset that `datasets` saved has the names of its
column `label` or `class` in `dataset_info.json`, if that is a `ClassLabel`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from tercet.data_pipelines.manifests.find import SAVED
from tercet.errors import UserError
from tercet.eval.benchmark_labels import labels_sidecar
from tercet.eval.classification.labels import KEYS, numbered
from tercet.eval.classification.multi_label import MultiLabelTask
from tercet.eval.classification.prompted_task import PromptedTask
from tercet.eval.classification.zero_shot import ZeroShotTask, label_tasks
from tercet.eval.load_tasks import load_task
from tercet.eval.task import Task, TaskGroup

CLASSES, TEMPLATES = "classnames.txt", "zeroshot_classification_templates.txt"
SPLIT, COUNT = "test", "nshards.txt"
TYPE, INFO = "dataset_type.txt", "dataset_info.json"
ZERO_SHOT = "zero_shot"  # the task that takes the classes

Labels: TypeAlias = Sequence[str] | Mapping[str, str]


@dataclass(frozen=True)
class OwnClasses:
    """Classes and templates of prompts, the usual ones if there are none.

    `verbatim`: prompts keep their articles. `captioned`: the data have captions beside the classes. `several`: a sample
    may have several classes.
    """

    labels: Labels = ()
    templates: tuple[str, ...] = ()
    verbatim: bool = False
    captioned: bool = False
    several: bool = False

    def __bool__(self) -> bool:
        return bool(self.labels)

    def tasks(self) -> Sequence[PromptedTask]:
        """The task for pictures and the one for sounds."""
        tasks = label_tasks(self.labels, self.templates, articles=not self.verbatim)
        return [_several(task) for task in tasks] if self.several else tasks


def with_classes(tasks: Sequence[str | Task], own: OwnClasses) -> list[str | Task]:
    """The tasks, with these classes, if there are any, in place of the task `zero_shot`, of files that extend it, and
    of both within groups."""
    return [placed for one in tasks for placed in _placed(one, own)] if own else [*tasks]


def _placed(task: str | Task, own: OwnClasses) -> Sequence[str | Task]:
    found = load_task(task) if isinstance(task, str) else task
    if not isinstance(found, TaskGroup):
        return [task]
    if found.tasks == usual_tasks():
        titled = {"title": found.title} if found.title else {}
        return [one.model_copy(update={"name": found.name, **titled}) for one in own.tasks()]
    return [each for one in found.tasks for each in _placed(one, own)]


@cache
def usual_tasks() -> tuple[str, ...]:
    """The tasks that `zero_shot` is on data without classes of their own."""
    usual = load_task(ZERO_SHOT)
    assert isinstance(usual, TaskGroup)
    return usual.tasks


def shards_of(folder: Path) -> Path | None:
    """The shards of a folder of CLIP_benchmark that are for evaluation; None for any other folder."""
    shards = folder / SPLIT
    return shards if (shards / COUNT).is_file() else None


def with_labels(split: Mapping[str, Any]) -> dict[str, Any]:
    """A split of the data. If it is of CLIP_benchmark and its samples have several classes, they come as a sidecar."""
    shards = Path(split["source"]) if isinstance(split.get("source"), str) else None
    if shards is None or not (shards / COUNT).is_file() or not _has_several(folder := shards.resolve().parent):
        return dict(split)
    return {"sidecar": str(labels_sidecar(shards, [*numbered(_lines(folder / CLASSES))])), **split}


def classes_of(source: str | Sequence[str]) -> OwnClasses:
    """The classes of a split of CLIP_benchmark or of a saved dataset; none for other data."""
    if not isinstance(source, str):
        return OwnClasses()
    shards = Path(source)
    folder = shards.resolve().parent
    if (shards / COUNT).is_file() and (folder / CLASSES).is_file():
        return _of_benchmark(folder)
    saved = Path(source.removeprefix(SAVED)) / INFO
    return _of_features(saved) if saved.is_file() else OwnClasses()


def _of_benchmark(folder: Path) -> OwnClasses:
    templates = _lines(folder / TEMPLATES)
    for line, template in enumerate(templates, start=1):
        if "{c}" not in template:
            raise UserError(f"{folder / TEMPLATES}: line {line}, `{template}`, has no place for the class; add {{c}}")
    own = tuple(one.replace("{c}", "{class}") for one in templates)
    return OwnClasses(numbered(_lines(folder / CLASSES)), own, verbatim=True, several=_has_several(folder))


def _has_several(folder: Path) -> bool:
    return "multilabel" in _lines(folder / TYPE) and (folder / CLASSES).is_file()


def _several(task: ZeroShotTask) -> MultiLabelTask:
    """The same classes and prompts, where an item may have several of the classes."""
    shared = task.model_dump(include={*MultiLabelTask.model_fields} - {"kind", "label"})
    return MultiLabelTask(**shared, kind="multi_label")


def _of_features(info: Path) -> OwnClasses:
    columns = json.loads(info.read_text(encoding="utf-8")).get("features") or {}
    features = {name: one for name, one in columns.items() if isinstance(one, dict)}  # a list is one of lists
    found = next((features[key] for key in KEYS if features.get(key, {}).get("_type") == "ClassLabel"), None)
    captioned = any(one.get("dtype") == "string" for one in features.values())
    names = [name.replace("_", " ") for name in found["names"]] if found else []
    return OwnClasses(numbered(names), captioned=captioned) if names else OwnClasses()


def benchmark_name(source: str) -> str | None:
    """The name of a dataset of CLIP_benchmark, by the folder of one of its splits; None for other data."""
    shards = Path(source)
    if not (shards / COUNT).is_file():
        return None
    name = shards.resolve().parent.name
    return name if shards.name == SPLIT else f"{name}/{shards.name}"


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
