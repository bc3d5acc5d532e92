"""Compares methods on parts of the data, with different towers, at equal compute (Scaling (Down) CLIP, Li et al. 2024).

The axes are the share of the training data, the image tower, and the method: CLIP, CLIP with augmented pictures, SLIP
(two more views of each picture, which find each other) and FLIP (half of the patches are left out). Every run spends
the same number of floating-point operations on training, so a cheaper step is taken more often. R@1 is the mean of both
directions on validation data.

Finished runs are kept, one line each: a second call makes only the missing ones, and also draws runs that other calls
made. `DIR/scaling.html` has a plot for each tower and a table.

Where this differs from the paper: small data and towers by default, and no zero-shot tasks. Give your own data and
towers to repeat it at another size.
"""

from argparse import Namespace
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from tercet.benchmarks.claims.experiment.runs import Job, complete
from tercet.benchmarks.scaling.arms import METHODS, TOWERS, Cell
from tercet.benchmarks.scaling.outcome import Measured, draw, rows_of
from tercet.benchmarks.table import BenchRow
from tercet.data_pipelines.shards.cache import cache_folder
from tercet.errors import UserError, did_you_mean
from tercet.main_process import say
from tercet.parser import Parser

PAGE = "scaling.html"


def run(arguments: Sequence[str]) -> list[BenchRow]:
    options = read_options(arguments)
    out = options.out or cache_folder() / "scaling"
    jobs = [Job(cell.name, cell, seed) for seed in range(options.seeds) for cell in cells(options)]
    found = complete("scaling", jobs, out / "runs.jsonl")
    measured = [Measured(cell, tuple(found[job.key] for job in jobs if job.arm == cell)) for cell in cells(options)]
    say(f"plot: {draw(out / PAGE, measured)}")
    return rows_of(measured)


def cells(options: Namespace) -> list[Cell]:
    """The runs of one seed."""
    return [
        Cell(share, tower, method, options.flops, options.data, options.batch, options.lr)
        for tower, share, method in product(options.towers, options.shares, options.methods)
    ]


def read_options(arguments: Sequence[str]) -> Namespace:
    parser = Parser(prog="tercet bench scaling", description=__doc__)
    parser.add_argument("--data", metavar="D", help="shards, a table or a folder (default: the built-in world)")
    parser.add_argument(
        "--shares", default="0.1,0.3,1", metavar="SHARE,…", help="shares of the training data (default: 0.1,0.3,1)"
    )
    parser.add_argument("--towers", metavar="NAME,…", help="small, large, or FAMILY:NAME (default: small,large)")
    parser.add_argument("--methods", metavar="NAME,…", help=f"some of {', '.join(METHODS)} (default: all)")
    parser.add_argument("--flops", type=float, default=2e12, metavar="N", help="FLOPs to train a run (default: 2e12)")
    parser.add_argument("--batch", type=int, default=64, metavar="N", help="samples of a step (default: 64)")
    parser.add_argument(
        "--lr", type=float, default=1e-3, metavar="LR", help="learning rate of all runs (default: 1e-3)"
    )
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="runs of each cell (default: 1)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the finished runs (default: in the cache)")
    options = parser.parse_args(arguments)
    options.shares = [share_of(word) for word in options.shares.split(",")]
    options.towers = options.towers.split(",") if options.towers else list(TOWERS)
    options.methods = options.methods.split(",") if options.methods else list(METHODS)
    for name in options.methods:
        if name not in METHODS:
            raise UserError(f"--methods: unknown method `{name}`; {did_you_mean(name, METHODS)}")
    for name in options.towers:
        if name not in TOWERS and ":" not in name:
            raise UserError(f"--towers: unknown tower `{name}`; {did_you_mean(name, TOWERS)}; or write FAMILY:NAME")
    if options.flops <= 0 or options.seeds < 1 or options.batch < 2:
        raise UserError("give --flops above 0, --seeds of 1 or more, and --batch of 2 or more")
    return options


def share_of(word: str) -> float:
    try:
        share = float(word)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise UserError(f"--shares: `{word}` is not a share; give numbers above 0 and up to 1, as 0.1,0.3,1")
    return share
