"""What the runs come to: steps and FLOPs until the final R@1 of uniform batches, with intervals over paired seeds.

Runs are evaluated after every 5 % of the steps, and the first evaluation that reaches the target counts. Uniform
batches have such a row too, because they may reach their final R@1 before the end. All intervals are 95 % intervals of
Student's t over the seeds, of the ratio to the whole uniform run of the same seed. If an arm misses the target in some
seed, its row has no ratio, and `reached` says in how many seeds it gets there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from tercet.benchmarks.claims.experiment.outcome import estimate
from tercet.benchmarks.claims.experiment.runs import Job, Key, Numbers
from tercet.benchmarks.jest.arms import (
    BAD,
    FLOPS_REFERENCE,
    FLOPS_SCORING,
    FLOPS_TRAINING,
    R1,
    SECONDS,
    curve_of,
)
from tercet.benchmarks.table import BenchRow

UNIFORM = "uniform"


def noise_rows(noise: float, jobs: Sequence[Job], runs: Mapping[Key, Numbers]) -> list[BenchRow]:
    """The rows of one share of wrong captions: for each arm its steps, its FLOPs and its final R@1."""
    arms: dict[str, list[Numbers]] = {}
    for job in jobs:
        arms.setdefault(job.name, []).append(runs[job.key])
    settings = {job.name: job.arm for job in jobs}
    uniform = arms[UNIFORM]
    return [row for name, each in arms.items() for row in arm_rows(name, noise, settings[name], each, uniform)]


def arm_rows(name: str, noise: float, arm: Any, runs: Sequence[Numbers], uniform: Sequence[Numbers]) -> list[BenchRow]:
    where = f"{name}, {words(noise)}"
    sizes = {"seeds": len(runs), "steps": arm.steps, "batch": arm.batch_size, "noise": noise}
    final = [run[R1] for run in runs]
    beyond = {
        "settings": asdict(arm),
        "R@1": spread(final),
        "curves": [curve_of(run) for run in runs],
        "seconds": fmean(run[SECONDS] for run in runs),
        "bad": fmean(run[BAD] for run in runs) if min(run[BAD] for run in runs) >= 0 else None,
    }
    steps = [steps_to(other[R1], run) for run, other in zip(runs, uniform, strict=True)]
    reached = against(f"steps of {where}", steps, [float(arm.steps)] * len(runs), sizes)
    if name == UNIFORM:
        return [BenchRow(f"R@1 of {where}", fmean(final), unit="%", sizes=sizes, beyond=beyond), reached]
    gain = spread([run[R1] - other[R1] for run, other in zip(runs, uniform, strict=True)])
    total = [costs(step, run) for step, run in zip(steps, runs, strict=True)]
    with_reference = [
        None if cost is None else cost + run[FLOPS_REFERENCE] for cost, run in zip(total, runs, strict=True)
    ]
    whole = [arm.steps * run[FLOPS_TRAINING] for run in uniform]
    peer = BenchRow(
        f"R@1 of {where}", fmean(final), fmean(run[R1] for run in uniform), UNIFORM, unit="%", sizes=sizes,
        beyond={**beyond, "gain": gain},
    )  # fmt: skip
    return [
        peer,
        BenchRow(f"best case of the gain of {where}", ours=gain["high"], unit="%", sizes=sizes, beyond={"gain": gain}),
        reached,
        against(f"FLOPs of {where}", total, whole, sizes),
        against(f"FLOPs of {where}, with those of the reference", with_reference, whole, sizes),
    ]


def against(name: str, values: Sequence[float | None], whole: Sequence[float], sizes: Mapping[str, Any]) -> BenchRow:
    """A row that compares what was needed to reach the target with the whole uniform runs, seed by seed."""
    reached = [value for value in values if value is not None]
    beyond: dict[str, Any] = {"values": list(values), "reached": f"{len(reached)} of {len(values)} seeds"}
    if len(reached) < len(values):
        return BenchRow(name, peer=fmean(whole), peer_name=UNIFORM, sizes=dict(sizes), beyond=beyond)
    ratio = spread([value / one for value, one in zip(reached, whole, strict=True)])
    beyond["ratios"] = ratio
    return BenchRow(name, fmean(reached), fmean(whole), UNIFORM, ratio["value"], sizes=dict(sizes), beyond=beyond)


def steps_to(target: float, run: Numbers) -> float | None:
    """The first evaluated step that reaches the target."""
    return next((float(step) for step, value in sorted(curve_of(run).items()) if value >= target), None)


def costs(steps: float | None, run: Numbers) -> float | None:
    """The FLOPs of so many steps, with scoring."""
    return None if steps is None else steps * (run[FLOPS_TRAINING] + run[FLOPS_SCORING])


def sweep_rows(jobs: Sequence[Job], runs: Mapping[Key, Numbers]) -> list[BenchRow]:
    """The final R@1 of each learning rate and schedule, best first."""
    arms: dict[str, list[Job]] = {}
    for job in jobs:
        arms.setdefault(job.name, []).append(job)
    rows = []
    for name, each in arms.items():
        found = spread([runs[job.key][R1] for job in each])
        settings = asdict(each[0].arm)
        beyond = {"R@1": found, "settings": settings}
        rows.append(BenchRow(f"uniform, {name}", found["value"], unit="%", sizes={"seeds": len(each)}, beyond=beyond))
    return sorted(rows, key=lambda row: -(row.ours or 0))


def spread(values: Sequence[float]) -> dict[str, Any]:
    """The values, their mean and its interval."""
    return {"values": list(values), **estimate(values)._asdict()}


def words(noise: float) -> str:
    return f"{100 * noise:g} % wrong captions" if noise else "clean captions"
