"""What an evaluation leaves out, because the data or the model lack something, and why."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Missing:
    """What could not be evaluated: a task, or every task if `task` is empty, on a dataset; and why."""

    dataset: str
    task: str
    why: str


def not_evaluated(model: str, missing: Sequence[Missing]) -> list[str]:
    """One sentence for all datasets that lack a task for the same reason."""
    alike: dict[tuple[str, str], list[str]] = {}
    for one in missing:
        alike.setdefault((one.task, one.why), []).append(one.dataset)
    return [
        f"{model} was not evaluated{f' by {task}' * bool(task)} on {_listed(datasets)}: {why}"
        for (task, why), datasets in alike.items()
    ]


def _listed(names: Sequence[str]) -> str:
    """Two of the names, and how many more there are."""
    first, more = names[:2], len(names) - 2
    return f"{', '.join(first)} and {more} more" if more > 0 else " and ".join(first)
