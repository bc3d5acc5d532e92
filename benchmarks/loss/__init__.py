"""Compares the tiled kernel with open_clip's `ClipLoss` and `SigLipLoss`: time, peak memory and results.

Each measurement is a forward and a backward pass. For times, the sides alternate in one process. Each peak is measured
in a new process: on a CPU, the growth of resident memory during the call; on a GPU, the peak of torch's allocator. Both
include the gradients.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.benchmarks.device import takes_device
from tercet.benchmarks.loss.memory import extra_bytes, return_what_is_freed
from tercet.benchmarks.loss.objectives import DIM, PEERS, TILE, items_for, rows_of
from tercet.benchmarks.progress import announced
from tercet.benchmarks.table import BenchRow
from tercet.distributed import World
from tercet.models.losses import Objective, build_objective
from tercet.models.losses.kernel import Pair, contrast
from tercet.models.losses.rows import Rows
from tercet.models.term_config import ObjectiveConfig
from tercet.parser import Parser
from tercet.testing import on_ranks
from tercet.testing.examples import chosen_objectives

ROWS, ROUNDS = 8192, 7
GROWTH = (4096, 8192, 16384)


@dataclass(frozen=True)
class LossProblem:
    """Normalised vectors of both sides, where row i of x matches row i of y, and the objective's scale and bias."""

    objective: Objective
    x: Tensor
    y: Tensor
    scale: Tensor
    bias: Tensor | None

    @staticmethod
    def of(name: str, rows: int, device: torch.device) -> "LossProblem":
        objective, random = build_objective(ObjectiveConfig(name=name)), torch.Generator().manual_seed(0)
        x, noise = torch.randn(2, rows, DIM, generator=random)
        scale = torch.tensor([objective.scale], device=device)
        bias = None if objective.bias is None else torch.tensor([objective.bias], device=device)
        x, y = (normalize(side, dim=1).to(device) for side in (x, x + 2 * noise))
        return LossProblem(objective, x, y, scale, bias)

    def variables(self) -> list[Tensor]:
        return [self.x, self.y, self.scale, *([] if self.bias is None else [self.bias])]


Answer = tuple[Tensor, list[Tensor]]  # the loss and the gradients of all variables
Solve = Callable[[LossProblem], Answer]


def ours(problem: LossProblem) -> Answer:
    x, y = Rows.numbered(problem.x), Rows.numbered(problem.y)
    found = contrast(problem.objective, Pair(x, y, problem.scale, problem.bias, TILE), World())
    return found.loss, [found.x_Ad, found.y_Ad, found.scale, found.bias][: len(problem.variables())]


def theirs(problem: LossProblem) -> Answer:
    name = "infonce" if problem.bias is None else "sigmoid"
    variables = [variable.detach().requires_grad_() for variable in problem.variables()]
    loss = PEERS[name]()(*variables)
    return loss.detach(), list(torch.autograd.grad(loss, variables))


SOLVERS: dict[str, Solve] = {"ours": ours, "theirs": theirs}


def run(arguments: Sequence[str]) -> list[BenchRow]:
    parser = Parser(prog="tercet bench loss", description=__doc__)
    takes_device(parser)
    parser.add_argument(
        "--objective", nargs="+", metavar="NAME", help="measure these objectives at growing batches, or `all`"
    )
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    if options.objective:
        names = chosen_objectives(options.objective)
        return [row for name in announced(names) for row in rows_of(name, items_for(name), device)]
    torch.backends.cuda.matmul.allow_tf32 = False
    parts: dict[str, Callable[[], list[BenchRow]]] = {
        "memory": lambda: memory(device),
        "time": lambda: [time_row(device)],
        **{f"agreement on {name}": partial(agreement, name, device) for name in PEERS},
    }
    return [row for part in announced(list(parts)) for row in parts[part]()]


def time_row(device: torch.device) -> BenchRow:
    problem = LossProblem.of("infonce", ROWS, device)
    for solve in SOLVERS.values():
        solve(problem)
    seconds = {who: [0.0] * ROUNDS for who in SOLVERS}
    for index in range(ROUNDS):
        for who, solve in SOLVERS.items():
            seconds[who][index] = timed(solve, problem, device)
    ratios = [one / other for one, other in zip(*seconds.values(), strict=True)]
    mine, peer = (median(values) for values in seconds.values())
    sizes = {"rows": ROWS, "dim": DIM, "tile": TILE, "threads": torch.get_num_threads(), "rounds": ROUNDS}
    beyond = {"ratios": [round(ratio, 3) for ratio in ratios]}
    return BenchRow("time", mine, peer, "open_clip ClipLoss", median(ratios), unit="s", sizes=sizes, beyond=beyond)


def timed(solve: Solve, problem: LossProblem, device: torch.device) -> float:
    settle(device)
    start = time.perf_counter()
    solve(problem)
    settle(device)
    return time.perf_counter() - start


def settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def memory(device: torch.device) -> list[BenchRow]:
    """Rows for both sides at one batch size, and for tercet at growing batch sizes with the same tile."""
    peaks = {rows: fresh_peak("ours", rows, device) for rows in GROWTH}
    peer = fresh_peak("theirs", ROWS, device)
    sizes = {"rows": ROWS, "dim": DIM, "tile": TILE}
    mine = peaks[ROWS]
    peaks_row = BenchRow(
        "memory", mine / 2**20, peer / 2**20, "open_clip ClipLoss", mine / peer, unit="MiB", sizes=sizes
    )
    first = peaks[GROWTH[0]] / GROWTH[0]
    return [peaks_row] + [
        BenchRow(
            f"memory per row at N = {rows}",
            ours=peak / rows,
            ratio=peak / rows / first,
            unit="bytes",
            sizes={**sizes, "rows": rows},
        )
        for rows, peak in peaks.items()
    ]


def fresh_peak(who: str, rows: int, device: torch.device) -> int:
    peak: int = on_ranks(peak_bytes, 1, who, rows, nccl=device.type == "cuda")[0]
    return peak


def peak_bytes(world: World, who: str, rows: int) -> int:
    return_what_is_freed()
    solve = SOLVERS[who]
    solve(LossProblem.of("infonce", TILE, world.device))  # loads libraries and starts threads
    problem = LossProblem.of("infonce", rows, world.device)
    return extra_bytes(lambda: solve(problem), world.device)


def agreement(name: str, device: torch.device) -> list[BenchRow]:
    """The relative differences of the losses and of the gradients, the largest one."""
    problem = LossProblem.of(name, ROWS, device)
    (loss, gradients), (peer_loss, peer_gradients) = ours(problem), theirs(problem)
    pairs = zip(gradients, peer_gradients, strict=True)
    sizes = {"rows": ROWS, "dim": DIM, "tile": TILE}
    peer_name = f"open_clip {PEERS[name].__name__}"
    return [
        BenchRow(f"{name} loss", difference(loss, peer_loss), peer_name=peer_name, sizes=sizes),
        BenchRow(f"{name} gradients", max(difference(a, b) for a, b in pairs), peer_name=peer_name, sizes=sizes),
    ]


def difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())
