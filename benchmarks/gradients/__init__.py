"""Tests that the gradient of each parameter does not depend on the number of processes.

The reference is autograd through a naive loss over whole matrices of logits, in one process that has the whole batch.
tercet runs the trainer's step on real gloo or NCCL processes, at every ZeRO stage, with and without clipping. The peer
is open_clip's `ClipLoss` in each of its modes. The error of a tensor is ‖Δ‖ / max(‖g‖, 1e-3·‖G‖), with G the whole
gradient. A row shows the error of its worst tensor.

Objectives that are not measured by default run at one ZeRO stage per number of processes, because the stage does not
change what an objective computes.
"""

import logging
from collections.abc import Iterable, Sequence
from itertools import product
from math import inf, isnan

import torch

from tercet.benchmarks.gradients.case import ITEMS, Case
from tercet.benchmarks.gradients.ours import measure
from tercet.benchmarks.gradients.peer import measure_peer
from tercet.benchmarks.progress import announced
from tercet.benchmarks.table import BenchRow
from tercet.distributed import World
from tercet.errors import UserError
from tercet.parser import Parser
from tercet.testing import on_ranks
from tercet.testing.examples import chosen_objectives

STAGES = (0, 1, 2, 3)
OBJECTIVES = ("infonce", "sigmoid")  # at every stage
OTHERS = {1: 0, 2: 3, 4: 2}  # the stage of other objectives, by the number of processes
LIMIT = 1e-5
CLIPS = (0.0, 0.1)  # no clipping, and a limit far below the norm of the gradient
TIMEOUT = 1200.0


def run(arguments: Sequence[str]) -> list[BenchRow]:
    parser = Parser(prog="tercet bench gradients", description=__doc__)
    parser.add_argument(
        "--objective", nargs="+", metavar="NAME", help="measure these objectives, or `all`, without the peer"
    )
    parser.add_argument("--worlds", default="1,2,4", metavar="N,…", help="numbers of processes (default: 1,2,4)")
    parser.add_argument("--nccl", action="store_true", help="run on as many GPUs, over NCCL")
    options = parser.parse_args(arguments)
    worlds = [int(size) for size in options.worlds.split(",") if size.isdecimal()]
    if not worlds or any(size == 0 or ITEMS % size for size in worlds):
        raise UserError(f"--worlds {options.worlds}: give numbers that divide the {ITEMS} items, such as 1,2,4")
    if options.nccl and max(worlds) > torch.cuda.device_count():
        raise UserError(f"--nccl: {max(worlds)} processes need as many GPUs; use --worlds {torch.cuda.device_count()}")
    peer, names = not options.objective, chosen_objectives(options.objective or OBJECTIVES)
    rows: list[BenchRow] = []
    for size in worlds:
        rows += on_ranks(measure_all, size, cases(size, names), peer, timeout=TIMEOUT, nccl=options.nccl)[0]
    return rows


def cases(world: int, objectives: Sequence[str]) -> list[Case]:
    usual = [name for name in OBJECTIVES if name in objectives]
    plain = [Case(world, zero, objective, clip) for zero, objective, clip in product(STAGES, usual, CLIPS)]
    others = [Case(world, OTHERS.get(world, 2), name) for name in objectives if name not in OBJECTIVES]
    if "infonce" not in objectives:
        return [*plain, *others]
    dropout = [Case(world, zero, setting="dropout") for zero in STAGES if world <= 2]
    return [*plain, *dropout, Case(world, 2, setting="frozen BatchNorm"), *others]


def measure_all(world: World, cases: Sequence[Case], peer: bool) -> list[BenchRow]:
    """All rows for one number of processes. Every rank returns the same rows."""
    torch.backends.cudnn.allow_tf32 = False
    logging.disable(logging.WARNING)  # for each engine, DeepSpeed warns that it does not know the optimizer
    rows = [row for case in announced(cases, named) for row in measure(world, case)]
    return worst_by_name([*rows, *(measure_peer(world) if peer and world.size > 1 else ())])


def named(case: Case) -> str:
    return f"{case.setting}, {case.objective} at ZeRO {case.zero} on {case.world} processes"


def worst_by_name(rows: Iterable[BenchRow]) -> list[BenchRow]:
    found: dict[str, BenchRow] = {}
    for row in rows:
        before = found.setdefault(row.name, row)
        found[row.name] = max(before, row, key=badness)
    return list(found.values())


def badness(row: BenchRow) -> float:
    return inf if row.ours is None or isnan(row.ours) else row.ours
