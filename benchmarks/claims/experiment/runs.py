"""The finished runs of a claim, one JSON object a line. A run that is there, with the same settings, is not repeated,
also if another claim made it: claims with the same `runs` share a file.

The settings alone identify a run. After a change of the code that trains, delete the file or choose another folder.
"""

import json
import time
from collections.abc import Iterable
from contextlib import redirect_stdout
from dataclasses import asdict
from hashlib import blake2b
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tercet.benchmarks.claims.experiment.claim import Arm, Claim
from tercet.benchmarks.progress import announced

Numbers = dict[str, float]


class Key(NamedTuple):
    """What identifies a run."""

    arm: str
    seed: int
    settings: str  # their digest


class Job(NamedTuple):
    """A run that a benchmark needs."""

    name: str
    arm: Arm
    seed: int

    @property
    def key(self) -> Key:
        return Key(self.name, self.seed, digest(self.arm))


def numbers(name: str, claim: Claim, seeds: Iterable[int], folder: Path) -> dict[str, list[Numbers]]:
    """The numbers of every arm, one for each seed in order, after the missing runs were made."""
    jobs = [Job(arm, settings, seed) for seed in seeds for arm, settings in claim.arms.items()]
    found = complete(name, jobs, folder / f"{claim.runs or name}.jsonl")
    return {arm: [found[job.key] for job in jobs if job.name == arm] for arm in claim.arms}


def complete(name: str, jobs: Iterable[Job], file: Path) -> dict[Key, Numbers]:
    """The numbers of all finished runs, after those of the jobs that are missing were made."""
    known = finished(file)
    missing = [job for job in jobs if job.key not in known]
    for job in announced(missing, lambda job: f"{name}: {job.name}, seed {job.seed}"):
        start = time.perf_counter()
        with redirect_stdout(StringIO()):  # stdout may be JSON, and a training run prints its results for people
            known[job.key] = job.arm.run(job.seed)
        beside = {"seconds": round(time.perf_counter() - start, 1), "threads": torch.get_num_threads()}
        append(file, {**job.key._asdict(), "numbers": known[job.key], **beside})
    return known


def digest(arm: Arm) -> str:
    return blake2b(json.dumps(asdict(arm), sort_keys=True).encode(), digest_size=8).hexdigest()


def finished(file: Path) -> dict[Key, Numbers]:
    rows = map(json.loads, file.read_text(encoding="utf-8").splitlines() if file.is_file() else ())
    return {Key(row["arm"], row["seed"], row["settings"]): row["numbers"] for row in rows}


def append(file: Path, row: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(row, ensure_ascii=False) + "\n")
