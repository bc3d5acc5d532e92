"""What the runs of a claim come to: means, the difference of the first two arms, and the verdict.

All intervals are 95 % intervals of Student's t over the seeds. The arms share their seeds, so the difference is taken
seed by seed.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from statistics import mean, stdev
from typing import Any

from tercet.benchmarks.claims.experiment.claim import Claim
from tercet.benchmarks.claims.experiment.runs import Numbers
from tercet.benchmarks.table import BenchRow
from tercet.eval.statistics.intervals import Estimate, student

VERDICTS = {True: "holds", False: "does not hold", None: "not shown"}


def estimate(values: Sequence[float]) -> Estimate:
    margin = student(len(values) - 1) * stdev(values) / len(values) ** 0.5
    return Estimate(mean(values), mean(values) - margin, mean(values) + margin)


def outcome(name: str, claim: Claim, runs: dict[str, list[Numbers]]) -> BenchRow:
    """`ours` is the mean of the first arm, `peer` that of the second, and `holds` the verdict, None if not shown."""
    first, second, *_ = runs
    gap = difference(claim.measure, runs[first], runs[second])
    gain = gap if claim.better == "higher" else Estimate(-gap.value, -gap.high, -gap.low)
    holds = shown(gain, *claim.gain)
    ours, peer = (mean(each[claim.measure] for each in runs[arm]) for arm in (first, second))
    words = f"{claim.says} {claim.measure}, {first} − {second}: {in_words(gap)}: {VERDICTS[holds]}"
    seeds = len(runs[first])
    beyond = {
        **claim.to_json(),
        "verdict": VERDICTS[holds],
        "words": words,
        "difference": {measure: difference(measure, runs[first], runs[second])._asdict() for measure in runs[first][0]},
        "arms": {arm: {"settings": asdict(claim.arms[arm]), **summary(each)} for arm, each in runs.items()},
    }
    return BenchRow(name, ours, peer, second, target=words, holds=holds, sizes={"seeds": seeds}, beyond=beyond)


def difference(measure: str, first: list[Numbers], second: list[Numbers]) -> Estimate:
    return estimate([one[measure] - other[measure] for one, other in zip(first, second, strict=True)])


def shown(gain: Estimate, low: float, high: float | None) -> bool | None:
    """Whether the whole interval of the gain lies in the range of the claim, or all of it outside. Else None."""
    limit = math.inf if high is None else high
    if low < gain.low and gain.high < limit:
        return True
    return False if gain.high < low or limit < gain.low else None


def in_words(gap: Estimate) -> str:
    return f"{gap.value:+.3g}, 95 % interval {gap.low:+.3g} to {gap.high:+.3g}"


def summary(runs: list[Numbers]) -> dict[str, Any]:
    """For each number, its values in the order of the seeds, and their mean with its interval."""
    return {
        measure: {"values": values, **estimate(values)._asdict()}
        for measure, values in ((measure, [run[measure] for run in runs]) for measure in runs[0])
    }
