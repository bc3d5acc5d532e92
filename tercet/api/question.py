"""What an evaluation asks: its tasks, their data and classes, and its settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tercet.api.data import Data, looked_at, run_of
from tercet.data_pipelines.config import DataConfig, SplitConfig
from tercet.errors import UserError
from tercet.eval.config import EvalConfig
from tercet.eval.datasets import Dataset, all_name_data, datasets
from tercet.eval.load_tasks import load_tasks
from tercet.eval.own_classes import ZERO_SHOT, Labels, OwnClasses, classes_of
from tercet.eval.task import Task

Tasks: TypeAlias = str | Sequence[str | Task]


@dataclass(frozen=True)
class Question:
    """The datasets of an evaluation with the tasks on each, and its settings. `data` says how they are read: they are
    its splits of `val`. `given`: somebody named the data, and not the files of the tasks or a run."""

    config: EvalConfig
    data: DataConfig
    datasets: Mapping[str, Dataset]
    given: bool
    classes: OwnClasses
    recipe_classes: OwnClasses

    @classmethod
    def of(
        cls,
        model: str,
        tasks: Tasks,
        labels: Labels,
        templates: str | Sequence[str] = (),
        data: Data | None = None,
        split: str | None = None,
    ) -> "Question":
        """Takes what is not named from the model's run, if it is one. `labels` are the classes of `zero_shot`. Given
        data with classes of their own are classified by them if no task is named."""
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
        if data is None and split is None:
            found = datasets(named, {} if all_name_data(named) else looked_at(model, None).val)
            seen = looked_at(model, {"val": {name: one.split.model_dump(mode="json") for name, one in found.items()}})
        else:
            seen = looked_at(model, data, split)
            chosen = {name: named if tasks or data is None else _usual(one, named) for name, one in seen.val.items()}
            found = {name: Dataset(one, chosen[name], named, data is None) for name, one in seen.val.items()}
        return cls(config, seen, found, data is not None, given, OwnClasses(config.labels, config.templates))

    def on(self, name: str) -> list[str | Task]:
        """The tasks on one dataset."""
        return self.datasets[name].classified(self.recipe_classes, self.classes)

    def lacks_classes(self, name: str) -> bool:
        """Whether `zero_shot` means the classes of each dataset, as others have them, and this one has none."""
        known = self.datasets[name].classes(self.recipe_classes, self.classes)
        return self.given and not known and any(classes_of(other.split.source) for other in self.datasets.values())


def _usual(split: SplitConfig, tasks: list[str | Task]) -> list[str | Task]:
    own = classes_of(split.source)
    return tasks if not own or own.captioned else [ZERO_SHOT]
