"""A training step beside open_clip_train's: seconds a step, with the same towers, batch, precision and AdamW.

tercet runs the engine, the optimizer and the step that `tercet train` runs. The peer is open_clip_train's own
`train_one_epoch`. Both sides get one synthetic batch in memory: tercet images as bytes, which its tower normalises; the
peer images that are normalised already. The sides take turns; a ratio is the median over rounds of the ratio within a
round. A third side runs tercet's step on DeepSpeed in one process, where `tercet train` uses plain torch: what it takes
longer is DeepSpeed's overhead.

On a CPU the seconds are those of the processor over all threads, which other programs hardly change; the seconds on the
wall stand beside them in the JSON. On a GPU they are seconds on the wall.

Options: `--models ViT-S-32,ViT-B-32`, `--batch 32`, `--tokens 77` of a text, `--rounds 5`, `--steps 1` of each round.
"""

import gc
import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Any

import torch

from tercet.benchmarks.step.case import LENGTH, StepCase
from tercet.benchmarks.step.clock import Side, StepTimes, middle, ratios, take_turns
from tercet.benchmarks.step.ours import OurSide
from tercet.benchmarks.step.peer import PeerSide
from tercet.benchmarks.table import BenchRow
from tercet.distributed import joined
from tercet.errors import UserError

ON_CPU, ON_GPU = "ViT-S-32,ViT-B-32", "ViT-B-32,ViT-B-16,ViT-L-14"
PEER = "open_clip_train"


def run(arguments: Sequence[str]) -> list[BenchRow]:
    cuda = torch.cuda.is_available()
    options = read_options(arguments, cuda)
    logging.disable(logging.WARNING)  # DeepSpeed's about the optimizer, open_clip's about random weights
    with joined() as world:
        rows: list[BenchRow] = []
        for name in options.models.split(","):
            precision: Any = "bf16" if cuda else "fp32"
            case = StepCase(name, options.batch, precision, world.device, options.tokens)
            rows += measure(case, options, "wall" if cuda else "process CPU")
    return rows if cuda else [*rows, *map(not_measured, ON_GPU.split(","))]


def read_options(arguments: Sequence[str], cuda: bool) -> Namespace:
    parser = ArgumentParser("tercet bench step")
    parser.add_argument("--models", default=ON_GPU if cuda else ON_CPU, metavar="NAME,…", help="models of open_clip")
    parser.add_argument("--batch", type=int, default=256 if cuda else 32, metavar="N", help="pairs of a step")
    parser.add_argument("--tokens", type=int, default=LENGTH, metavar="N", help="tokens of each text (default: 77)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="how often each side runs (default: 5)")
    parser.add_argument("--steps", type=int, default=10 if cuda else 1, metavar="N", help="steps in each round")
    options = parser.parse_args(arguments)
    if options.batch < 2 or options.rounds < 1 or options.steps < 1 or not 1 < options.tokens <= LENGTH:
        raise UserError(f"give at least one of --rounds and --steps, a --batch of 2 and 2 to {LENGTH} --tokens")
    return options


def measure(case: StepCase, options: Namespace, clock: str) -> list[BenchRow]:
    plain = OurSide(case)
    weights = sum(parameter.numel() for parameter in plain.model.parameters())
    sides: dict[str, Side] = {"ours": plain, "peer": PeerSide(case), "deepspeed": OurSide(case, deepspeed=True)}
    times = take_turns(sides, options.rounds, options.steps)
    del sides, plain
    gc.collect()
    sizes = case.sizes() | {"parameters": weights, "threads": torch.get_num_threads(), "rounds": options.rounds}
    where = f"{case.model} on a {'GPU' if case.device.type == 'cuda' else 'CPU'}"
    ours, peer, deepspeed = times["ours"], times["peer"], times["deepspeed"]
    beside = {**row_of(ours, peer, clock), "ratio": middle(ratios(peer.of(clock), ours.of(clock)))}
    over = {**row_of(deepspeed, ours, clock), "ratio": middle(ratios(deepspeed.of(clock), ours.of(clock)))}
    return [
        BenchRow(f"step of {where}", peer_name=PEER, unit="s", sizes={**sizes, "clock": clock}, **beside),
        BenchRow(f"DeepSpeed, {where}", peer_name="plain torch", unit="s", sizes={**sizes, "clock": clock}, **over),
    ]


def row_of(one: StepTimes, other: StepTimes, clock: str) -> dict[str, Any]:
    """Medians by the clock that counts; beyond them, both sides round by round on both clocks."""
    rounds = {"wall": [one.wall, other.wall], "process CPU": [one.cpu, other.cpu]}
    beyond = {
        f"seconds, {name}": [[round(value, 4) for value in side] for side in both] for name, both in rounds.items()
    }
    return {"ours": middle(one.of(clock)), "peer": middle(other.of(clock)), "beyond": beyond}


def not_measured(model: str) -> BenchRow:
    return BenchRow(f"{model} on a GPU: not measured, there is none", peer_name=PEER)
