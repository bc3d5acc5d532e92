"""The task `zero_shot` with classes that the user names, or that the data bring along.

CLIP_benchmark keeps each dataset in a folder: the shards of a split in a folder of that name, beside the names of the
classes and the templates of prompts.

    FOLDER/classnames.txt                            one class a line; `.cls` of a sample is a line number, from zero
    FOLDER/zeroshot_classification_templates.txt     one prompt a line, `{c}` is replaced by the class
    FOLDER/test/nshards.txt, 0.tar, 1.tar, …

Other folders, such as those for retrieval, have no classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from tercet.data_pipelines.config import SplitConfig
from tercet.errors import UserError
from tercet.eval.labels import plain
from tercet.eval.task import Task
from tercet.eval.zero_shot import ZeroShotTask, label_tasks

CLASSES, TEMPLATES = "classnames.txt", "zeroshot_classification_templates.txt"
SPLIT, COUNT = "test", "nshards.txt"
ZERO_SHOT = "zero_shot"  # the task that takes the classes

Labels: TypeAlias = Sequence[str] | Mapping[str, str]


@dataclass(frozen=True)
class OwnClasses:
    """Classes and templates of prompts, the usual ones if there are none. `verbatim`: prompts keep their articles."""

    labels: Labels = ()
    templates: tuple[str, ...] = ()
    verbatim: bool = False

    def __bool__(self) -> bool:
        return bool(self.labels)

    def tasks(self) -> list[ZeroShotTask]:
        """The task for pictures and the one for sounds."""
        return label_tasks(self.labels, self.templates, articles=not self.verbatim)


def with_classes(tasks: Sequence[str | Task], split: SplitConfig, given: OwnClasses) -> list[str | Task]:
    """The tasks, with classes in place of the task `zero_shot`: those given, or else those of the data."""
    if ZERO_SHOT not in tasks or not (own := given or classes_of(split.source)):
        return [*tasks]
    place = tasks.index(ZERO_SHOT)
    return [*tasks[:place], *own.tasks(), *tasks[place + 1 :]]


def shards_of(folder: Path) -> Path | None:
    """The shards of a folder of CLIP_benchmark that are for evaluation; None for any other folder."""
    shards = folder / SPLIT
    return shards if (shards / COUNT).is_file() else None


def classes_of(source: str | Sequence[str]) -> OwnClasses:
    """The classes of a split of CLIP_benchmark; none for other data."""
    shards = Path(source) if isinstance(source, str) else Path()
    folder = shards.resolve().parent
    if not ((shards / COUNT).is_file() and (folder / CLASSES).is_file()):
        return OwnClasses()
    names, templates = _lines(folder / CLASSES), _lines(folder / TEMPLATES)
    for line, template in enumerate(templates, start=1):
        if "{c}" not in template:
            raise UserError(f"{folder / TEMPLATES}: line {line}, `{template}`, has no place for the class; add {{c}}")
    plainly = set(map(plain, names))
    numbered = len(plainly) < len(names) or any(map(str.isdecimal, plainly))
    labels = {str(number) if numbered else name: name for number, name in enumerate(names)}
    return OwnClasses(labels, tuple(one.replace("{c}", "{class}") for one in templates), verbatim=True)


def benchmark_name(source: str) -> str | None:
    """The name of a dataset of CLIP_benchmark, by the folder of one of its splits; None for other data."""
    shards = Path(source)
    if not (shards / COUNT).is_file():
        return None
    name = shards.resolve().parent.name
    return name if shards.name == SPLIT else f"{name}/{shards.name}"


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
