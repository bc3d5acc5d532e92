"""Time and memory of any objective at growing batches, with the same tile.

Each objective is measured in a process of its own, on one thread. Its times alternate with those of a peer's loss where
there is one, else with those of plain InfoNCE. On a CPU they are processor time. The items of a batch are those of the
objective's example, where each has all of its fields.

Shapes: N rows of a field, d dimensions.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from open_clip.loss import ClipLoss, SigLipLoss
from torch.nn.functional import normalize

from tercet.benchmarks.loss.memory import extra_bytes, return_what_is_freed
from tercet.benchmarks.table import BenchRow
from tercet.distributed import World
from tercet.models.losses.problem import Problem
from tercet.models.losses.rows import Rows
from tercet.testing import on_ranks
from tercet.testing.examples import Beside, build_example, example_of

DIM, TILE, ROUNDS = 512, 512, 3
ITEMS, FEW_ITEMS = (2048, 4096, 8192), (256, 512)  # the latter where memory grows with their square
TOKENS = 16  # of a row, if the objective compares tokens
TIMEOUT = 3600.0
PEERS = {"infonce": ClipLoss, "sigmoid": SigLipLoss}


@dataclass(frozen=True)
class Measured:
    """Of one objective at one number of items: the seconds of each round and the peak memory in bytes, of both sides.

    InfoNCE of tercet is timed beside objectives that have no peer; its memory is not measured again.
    """

    seconds: list[float]
    other_seconds: list[float]
    peak: int
    peer_peak: int | None

    @property
    def ratio(self) -> float:
        return median(one / other for one, other in zip(self.seconds, self.other_seconds, strict=True))


def items_for(name: str) -> tuple[int, ...]:
    return ITEMS if example_of(name).tiled else FEW_ITEMS


def rows_of(name: str, items: Sequence[int], device: torch.device) -> list[BenchRow]:
    """The rows of an objective at each number of items, which ascend."""
    nccl = device.type == "cuda"
    found: list[Measured] = on_ranks(measure, 1, name, items, timeout=TIMEOUT, nccl=nccl)[0]
    peer = f"open_clip {PEERS[name].__name__}" if name in PEERS else None
    first = found[0].peak / items[0]
    rows = []
    for count, one in zip(items, found, strict=True):
        sizes = {"items": count, "dim": DIM, "tile": TILE, "threads": 1, "rounds": len(one.seconds)}
        clock = {"clock": "wall" if nccl else "process CPU"}
        seconds = {"seconds": [[round(t, 4) for t in side] for side in (one.seconds, one.other_seconds)]}
        at = f"of {name} at N = {count}"
        mine, other = median(one.seconds), median(one.other_seconds)
        beside = peer or "infonce of tercet"
        rows += [
            BenchRow(f"time {at}", mine, other, beside, one.ratio, unit="s", sizes=sizes | clock, beyond=seconds),
            memory_row(f"memory {at}", one, peer, sizes),
        ]
        if example_of(name).tiled:
            each = one.peak / count
            rows.append(BenchRow(f"memory per item {at}", each, ratio=each / first, unit="bytes", sizes=sizes))
    return rows


def memory_row(name: str, one: Measured, peer: str | None, sizes: dict[str, int]) -> BenchRow:
    if one.peer_peak is None:
        return BenchRow(name, one.peak / 2**20, unit="MiB", sizes=sizes)
    ratio = one.peak / one.peer_peak
    return BenchRow(name, one.peak / 2**20, one.peer_peak / 2**20, peer, ratio, unit="MiB", sizes=sizes)


def measure(world: World, name: str, items: Sequence[int]) -> list[Measured]:
    return_what_is_freed()
    torch.backends.cuda.matmul.allow_tf32 = False
    return [measure_at(name, count, world.device) for count in items]


def measure_at(name: str, items: int, device: torch.device) -> Measured:
    solve_ours = ours(name, items, device)
    solve_other = theirs(name, items, device) if name in PEERS else ours("infonce", items, device)
    sides = (solve_ours, solve_other)
    ours(name, 64, device)()  # loads libraries
    peaks = [extra_bytes(side, device) for side in (sides if name in PEERS else sides[:1])]
    rounds = [[seconds_of(side, device) for side in sides] for _ in range(ROUNDS)]
    seconds, other_seconds = (list(side) for side in zip(*rounds, strict=True))
    return Measured(seconds, other_seconds, peaks[0], peaks[1] if name in PEERS else None)


def ours(name: str, items: int, device: torch.device) -> Callable[[], object]:
    """A call that computes the loss and all gradients."""
    problem, objective = problem_of(name, items, device), build_example(name)
    return torch.no_grad()(lambda: objective.solve(problem))


def theirs(name: str, items: int, device: torch.device) -> Callable[[], object]:
    problem, criterion = problem_of(name, items, device), PEERS[name]()
    shared = [problem.scale] if problem.bias is None else [problem.scale, problem.bias]
    variables = [one.requires_grad_() for one in (*(rows.z_Nd for rows in problem.fields.values()), *shared)]

    def solve() -> object:
        return torch.autograd.grad(criterion(*variables), variables)

    return solve


def problem_of(name: str, items: int, device: torch.device) -> Problem:
    """All rows of an item are near each other."""
    objective, example = build_example(name), example_of(name)
    random = torch.Generator().manual_seed(0)
    center_Nd = torch.randn(items, DIM, generator=random)

    def rows(field: str, *tokens: int) -> Rows:
        item_N = torch.arange(items).repeat_interleave(example.rows.get(field, 1))
        shape = len(item_N), *tokens, DIM
        center = center_Nd[item_N].view(len(item_N), *(1 for _ in tokens), DIM)
        z_N = normalize(center + 2 * torch.randn(shape, generator=random), dim=-1).to(device)
        item_N = item_N.to(device)
        return Rows(z_N, slice(0, len(z_N)), item_N, item_N, item_N)

    scale = torch.tensor([objective.scale], device=device)
    bias = None if objective.bias is None else torch.tensor([objective.bias], device=device)
    return Beside(objective, example, items).problem(
        {field: rows(field) for field in example.fields},
        scale,
        bias,
        TILE,
        World(device=device),
        tokens={field: rows(field, TOKENS) for field in objective.tokens(example.between)},
        unnormalised={field: rows(field) for field in example.between if objective.unnormalised},
    )


def seconds_of(call: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        return time.perf_counter() - start
    start = time.process_time()
    call()
    return time.process_time() - start
