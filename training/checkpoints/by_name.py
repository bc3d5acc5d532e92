"""The checkpoints of a run by name: `RUN@best` is that of its best evaluation, `RUN@300` that of step 300.

No file points to the best checkpoint, as none points to the newest: it is the checkpoint whose step has the best score
in `evaluations.jsonl`, of those that are complete. So a process that dies between an evaluation and the end of its
commit leaves the best one of before.
"""

from collections.abc import Collection
from pathlib import Path

from tercet.distributed import World
from tercet.errors import UserError
from tercet.main_process import say
from tercet.training.checkpoints.commit import committed, flaw, place, step_of
from tercet.training.checkpoints.reader import CHECKPOINTS, CONFIG, Saved, resume_point
from tercet.training.history.evaluations import EVALUATIONS, Evaluations
from tercet.training.recipe import load_recipe

AT, BEST = "@", "best"


def run_and_checkpoint(spec: str) -> tuple[Path, str]:
    """The folder of a run and the name of a checkpoint in it; without `@`, or if there is such a path, no name."""
    folder, at, name = spec.rpartition(AT)
    named = at and not Path(spec).exists() and (Path(folder) / CHECKPOINTS).is_dir()
    return (Path(folder), name) if named else (Path(spec), "")


def checkpoint_or_newest(run: Path, name: str) -> Saved | None:
    """The checkpoint of this name; without a name, the newest valid one, if there is one."""
    return checkpoint_named(run, name) if name else resume_point(run / CHECKPOINTS, World())


def checkpoint_named(run: Path, name: str) -> Saved:
    """The checkpoint of this name, which is whole."""
    steps = [step_of(path) for path in committed(run / CHECKPOINTS)]
    if name == BEST:
        return Saved(place(run / CHECKPOINTS, _best(run, steps)))
    if not name.isdigit() or int(name) not in steps:
        known = ", ".join(str(step) for step in sorted(steps)) or "none"
        raise UserError(f"{run} has no checkpoint `{name}`; name the step of one, or best. It has those of {known}")
    path = place(run / CHECKPOINTS, int(name))
    if problem := flaw(path):
        raise UserError(f"{path} is damaged ({problem}); name another checkpoint")
    return Saved(path)


def _best(run: Path, steps: Collection[int]) -> int:
    best = load_recipe(str(run / CONFIG)).best
    if best is None:
        raise UserError(f"{run} keeps no best checkpoint: set checkpoint.best or early_stopping, or name a step")
    left = set(steps)
    while (step := Evaluations(run / EVALUATIONS).best(best, left)) is not None:
        problem = flaw(place(run / CHECKPOINTS, step))
        if problem is None:
            return step
        say(f"skips the damaged checkpoint of step {step:,} ({problem})")
        left.remove(step)
    raise UserError(f"{run} has no checkpoint that was evaluated yet; train on, or leave out {AT}{BEST}")
