"""The plans of a run: where each source resumes, and whether the data changed since the checkpoint."""

import json
from pathlib import Path

from tercet.data_pipelines.plans.plan import Plan, read_plan
from tercet.data_pipelines.plans.schedule import per_batch
from tercet.data_pipelines.preflight.batch_size import check_batch_size
from tercet.training.checkpoints.progress import Progress
from tercet.training.config import RunConfig
from tercet.training.episodes.config import draws
from tercet.training.hooks.metrics_file import forget_after

PLANS = "plans"


def cursors_for(run: RunConfig, stage: RunConfig, progress: Progress) -> dict[str, int]:
    """The number of samples drawn so far from each source. A source with other shards or in another order than in the
    previous stage starts at 0."""
    before, now = (_drawn_from(one, progress.episode) for one in (run.stage(progress.stage), stage))
    replaced = {name for name in before.keys() & now.keys() if before[name] != now[name]}
    return {name: at for name, at in progress.cursors.items() if name not in replaced}


def _drawn_from(stage: RunConfig, episode: int | None) -> dict[str, object]:
    """What decides which sample of each source is at which position."""
    size, drawn = per_batch(stage.data, stage.drawn), episode if draws(stage) else None
    rule = stage.data.weights
    return {
        name: (one.source, one.list, drawn, one.neighbors, one.clusters, (size[name], rule) if one.composed else None)
        for name, one in stage.data.train.items()
    }


def check_plan(run: RunConfig, stage: RunConfig, plan: Plan, progress: Progress, folder: Path) -> None:
    """Raises `UserError` if the data cannot fill a batch, or changed since the checkpoint."""
    if stage.data.mode == "index":
        check_batch_size(plan, stage.batch_size, stage.drawn)
    if progress.plan:
        earlier = read_plan(folder / PLANS, progress.plan)
        plan.follows(earlier, cursors_for(run, stage, progress))
        before = run.stage(progress.stage)
        if (before.fields, before.terms) == (stage.fields, stage.terms):
            plan.check_fields(earlier)


def note_plan(plan: Plan, progress: Progress, folder: Path) -> None:
    """Writes a plan that differs from the checkpoint's, and adds the step at which it takes effect to the history."""
    if plan.digest == progress.plan:
        return
    plan.write(folder / PLANS)
    path, line = (
        folder / PLANS / "history.jsonl",
        {"step": progress.step, "samples": progress.samples, "plan": plan.digest},
    )
    forget_after(path, progress.step - 1)  # what a run wrote that was killed before its next checkpoint
    with path.open("a", encoding="utf-8") as lines:
        print(json.dumps(line), file=lines)
