"""Measures joint example selection (JEST): how many steps and FLOPs a run needs until it is as good as a run on uniform
batches, and what scoring and sampling cost.

All runs train on the built-in data, of which a share of the captions describes another scene. The target of a seed is
the final R@1 of its uniform run on held-out scenes. Finished runs are kept, one line each: a second call makes only the
missing ones. Two processes may share the folder, with other arms or shares each.

`--sweep` compares learning rates and schedules of uniform batches instead, on seeds of their own. `--overhead` measures
only the cost of scoring and sampling.
"""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from tercet.benchmarks.claims.experiment.runs import Job, complete
from tercet.benchmarks.jest.arms import PLAN, SWEEP, Trained, arms_at
from tercet.benchmarks.jest.outcome import noise_rows, sweep_rows
from tercet.benchmarks.jest.overhead import overhead_rows
from tercet.benchmarks.table import BenchRow
from tercet.data_pipelines.shards.cache import cache_folder
from tercet.errors import UserError, did_you_mean
from tercet.parser import Parser

UNIFORM = "uniform"
FEWEST_SEEDS = 3  # with two, the interval is so wide that it says nothing


def run(arguments: Sequence[str]) -> list[BenchRow]:
    options = read_options(arguments)
    if options.overhead:
        return overhead_rows(options.batch, options.rounds)
    file = (options.out or cache_folder() / "jest") / "runs.jsonl"
    if options.sweep:
        jobs = [Job(name, arm, seed) for name, arm in SWEEP.items() for seed in range(options.seeds or FEWEST_SEEDS)]
        return sweep_rows(jobs, complete("sweep", jobs, file))
    jobs = [job for noise in options.noise for job in jobs_at(noise, options)]
    runs = complete("jest", jobs, file)
    rows = [row for noise in options.noise for row in noise_rows(noise, jobs_at(noise, options), runs)]
    whole = options.arms is None and options.noise == list(PLAN)
    return [*rows, *overhead_rows(options.batch, options.rounds)] if whole else rows


def jobs_at(noise: float, options: Namespace) -> list[Job]:
    """The runs at one share of wrong captions, seed by seed, so that an interrupted call has whole seeds."""
    arms: dict[str, Trained] = arms_at(noise, options.steps)
    wanted = [name for name in arms if options.arms is None or name in (UNIFORM, *options.arms)]
    return [Job(name, arms[name], seed) for seed in range(options.seeds or PLAN[noise].seeds) for name in wanted]


def read_options(arguments: Sequence[str]) -> Namespace:
    parser = Parser(prog="tercet bench jest", description=__doc__)
    parser.add_argument("--arms", metavar="NAME,…", help="arms beside uniform (default: all)")
    parser.add_argument("--noise", metavar="SHARE,…", help="shares of wrong captions (default: 0.5,0.3,0.1,0)")
    parser.add_argument("--seeds", type=int, metavar="N", help="runs of each arm (default: 5, or 3 at 0.1 and 0)")
    parser.add_argument("--steps", type=int, metavar="N", help="steps of a run (default: 400)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the finished runs (default: in the cache)")
    parser.add_argument("--sweep", action="store_true", help="compare learning rates and schedules of uniform batches")
    parser.add_argument("--overhead", action="store_true", help="measure only the cost of scoring and sampling")
    parser.add_argument(
        "--batch", type=int, default=2048, metavar="N", help="overhead: samples that a step keeps (default: 2048)"
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="overhead: number of rounds (default: 3)")
    options = parser.parse_args(arguments)
    if options.seeds is not None and options.seeds < FEWEST_SEEDS:
        raise UserError(f"--seeds is {options.seeds}; give {FEWEST_SEEDS} or more")
    if options.rounds < 1 or options.batch < 64 or options.batch % 64:
        raise UserError("give --rounds of 1 or more, and as --batch a multiple of 64")
    options.noise = [share_of(word) for word in options.noise.split(",")] if options.noise else list(PLAN)
    options.arms = options.arms.split(",") if options.arms else None
    known = list(dict.fromkeys(name for noise in options.noise for name in arms_at(noise)))
    for name in options.arms or ():
        if name not in known:
            raise UserError(f"--arms: unknown arm `{name}`; {did_you_mean(name, known)}")
    return options


def share_of(word: str) -> float:
    fitting = [noise for noise in PLAN if word in (f"{noise:g}", str(noise))]
    if not fitting:
        raise UserError(f"--noise: `{word}` is not measured; give some of {', '.join(f'{noise:g}' for noise in PLAN)}")
    return fitting[0]
