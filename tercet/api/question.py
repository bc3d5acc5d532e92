"""What an evaluation asks: its tasks, their classes, and its settings."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from tercet.api.data import Data, run_of
from tercet.data_pipelines.config import SplitConfig
from tercet.data_pipelines.manifests.find import SAVED
from tercet.data_pipelines.shards.address import is_url
from tercet.errors import UserError
from tercet.eval.config import EvalConfig
from tercet.eval.load_tasks import load_tasks
from tercet.eval.own_classes import ZERO_SHOT, Labels, OwnClasses, classes_of, with_classes
from tercet.eval.task import Task

Tasks: TypeAlias = str | Sequence[str | Task]


@dataclass(frozen=True)
class Question:
    """The tasks of an evaluation, and its settings. `named`: whether somebody named the tasks."""

    tasks: list[str | Task]
    named: bool
    config: EvalConfig
    classes: OwnClasses
    recipe_classes: OwnClasses

    @classmethod
    def of(
        cls, model: str, tasks: Tasks, labels: Labels, templates: str | Sequence[str] = (), data: Data | None = None
    ) -> "Question":
        """Takes what is not named from the model's run, if it is one. `labels` are the classes of `zero_shot`."""
        run = run_of(model)
        config = run.eval if run else EvalConfig()
        named: list[str | Task] = [tasks] if isinstance(tasks, str) else [*(tasks or config.tasks)]
        load_tasks(named)  # mistakes are found before the model is loaded
        if labels and ZERO_SHOT not in named:
            raise UserError(
                f"labels are the classes of the task `{ZERO_SHOT}`, which is not among the tasks; add it: {ZERO_SHOT}"
            )
        given = OwnClasses(labels, (templates,) if isinstance(templates, str) else tuple(templates))
        if labels:
            given.tasks()
        of_recipe = OwnClasses(config.labels, config.templates)
        return cls(named, bool(tasks), config, given or (of_recipe if data is None else given), of_recipe)

    def on(self, split: SplitConfig) -> list[str | Task]:
        """The tasks on one dataset. Data with classes of their own are classified by them if no task is named."""
        own = classes_of(split.source)
        if own and self.classes.templates:
            own = replace(own, templates=self.classes.templates)
        tasks = self.tasks if self.named or not own or own.captioned else [ZERO_SHOT]
        return with_classes(tasks, split, self.classes or own or self.recipe_classes)

    def lacks_classes(self, split: SplitConfig, others: Iterable[SplitConfig]) -> bool:
        """Whether `zero_shot` means the classes of each dataset, as others have them, and this one has none."""
        known = self.classes or classes_of(split.source) or self.recipe_classes
        return not known and any(classes_of(other.source) for other in others)


def data_for(tasks: Tasks, data: Data | None, split: str | None) -> Data | None:
    """The data or the split that is given, or else the data that the files of the tasks name."""
    if data is not None or split is not None:
        return data
    found = {task.data: task.name for task in load_tasks([tasks] if isinstance(tasks, str) else tasks) if task.data}
    if len(found) > 1:
        (first, one), (second, other), *_ = found.items()
        raise UserError(
            f"task `{one}` names the data {first}, and task `{other}` {second}; evaluate them one by one, or name data "
            "for both: --data D, or data=…"
        )
    for path, name in found.items():
        plain = path.removeprefix(SAVED)
        if not (is_url(plain) or set(plain) & set("*?[{") or Path(plain).exists()):
            raise UserError(
                f"task `{name}`: its `data`, {path}, does not exist; give a path from the folder of the task file"
            )
    return next(iter(found), None)
