"""A plain DDP loop with either loss: the time and the peak memory of a step, and the error of the gradients.

The peer is `ClipLoss` with `local_loss` and `gather_with_grad`: with these options its gradients are exact and it takes
the least memory. Each tower is one layer, so the loss takes almost all of a step. For times, the sides alternate in the
same processes. A peak is that of the first step in new processes, without the memory of the towers and the inputs.
"""

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch
from open_clip.loss import ClipLoss
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.parallel import DistributedDataParallel

from tercet.benchmarks.loss import difference, settle
from tercet.benchmarks.loss.memory import extra_bytes, return_what_is_freed
from tercet.benchmarks.table import BenchRow
from tercet.distributed import World
from tercet.models.losses.standalone import loss
from tercet.testing import on_ranks

WIDTH, DIM, FEW = 64, 512, 256
PEER = "open_clip ClipLoss"
Criterion = Callable[..., Tensor]


@dataclass(frozen=True)
class Size:
    """The number of processes, the number of rows over all of them, and the number of steps of each side."""

    ranks: int
    rows: int
    rounds: int
    cuda: bool

    def to_json(self) -> dict[str, int]:
        return {"ranks": self.ranks, "rows": self.rows, "dim": DIM, "rounds": self.rounds}


class Towers(nn.Module):
    """One layer for each tower, and the initial temperature of CLIP."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.image, self.text = nn.Linear(WIDTH, DIM), nn.Linear(WIDTH, DIM)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        image, text = normalize(self.image(images), dim=1), normalize(self.text(texts), dim=1)
        return image, text, self.log_scale.exp()


def inputs(rows: int) -> tuple[Tensor, Tensor]:
    """Correlated pairs of rows."""
    one, noise = torch.randn(2, rows, WIDTH, generator=torch.Generator().manual_seed(0))
    return one, one + noise


def criterion(who: str, world: World) -> Criterion:
    if who == "ours":
        return loss("infonce")
    peer: Criterion = ClipLoss(local_loss=True, gather_with_grad=True, rank=world.rank, world_size=world.size)
    return peer


def stepper(who: str, rows: int, world: World) -> tuple[nn.Module, Callable[[], None]]:
    """A model in DDP, and a function that runs forward and backward on this rank's rows."""
    model = DistributedDataParallel(Towers().to(world.device))
    own = [side.chunk(world.size)[world.rank].to(world.device) for side in inputs(rows)]
    lose = criterion(who, world)
    warnings.filterwarnings("ignore", category=FutureWarning, module="open_clip")  # for a deprecated collective

    def step() -> None:
        model.zero_grad()
        torch.autograd.backward(lose(*model(*own)))
        settle(world.device)

    return model.module, step


def seconds(world: World, size: Size) -> dict[str, list[float]]:
    """The times of the steps of both sides. The sides take turns."""
    steps = {who: stepper(who, size.rows, world)[1] for who in ("ours", "theirs")}
    measured: dict[str, list[float]] = {who: [] for who in steps}
    for turn in range(size.rounds + 1):
        for who, step in steps.items():
            world.barrier()
            start = time.perf_counter()
            step()
            if turn:  # the first turn warms up
                measured[who].append(time.perf_counter() - start)
    return measured


def peak(world: World, who: str, rows: int) -> int:
    return_what_is_freed()
    stepper(who, FEW, world)[1]()  # loads libraries and starts threads
    _, step = stepper(who, rows, world)
    return extra_bytes(step, world.device)


def gradients(world: World, who: str, rows: int) -> list[Tensor]:
    model, step = stepper(who, rows, world)
    step()
    return [parameter.grad.cpu() for parameter in model.parameters() if parameter.grad is not None]


def true_gradients(rows: int) -> list[Tensor]:
    """The gradients of one process with the whole batch, in float64."""
    model = Towers().double()
    lost = ClipLoss()(*model(*(side.double() for side in inputs(rows))))
    return list(torch.autograd.grad(lost, list(model.parameters())))


def loop_rows(size: Size) -> list[BenchRow]:
    launch = partial(on_ranks, nccl=size.cuda)
    times = launch(seconds, size.ranks, size)[0]
    peaks = {who: max(launch(peak, size.ranks, who, size.rows)) for who in times}
    truth = true_gradients(size.rows)
    errors = {who: max(map(difference, launch(gradients, size.ranks, who, size.rows)[0], truth)) for who in times}
    ratios = [one / other for one, other in zip(*times.values(), strict=True)]
    mine, peer = (median(each) for each in times.values())
    sizes = size.to_json()
    return [
        BenchRow("loss time", mine, peer, PEER, median(ratios), unit="s", sizes=sizes, beyond={"ratios": ratios}),
        row("loss memory", {who: held / 2**20 for who, held in peaks.items()}, sizes, "MiB"),
        row("loss gradient error", errors, sizes, None),
    ]


def row(name: str, measured: dict[str, float], sizes: dict[str, int], unit: str | None) -> BenchRow:
    mine, peer = measured["ours"], measured["theirs"]
    return BenchRow(name, mine, peer, PEER, mine / peer, unit=unit, sizes=sizes)
