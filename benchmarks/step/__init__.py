"""Compares a training step of tercet with one of open_clip_train: same towers, batch, precision and AdamW.

tercet runs the engine, the optimizer and the step of `tercet train`. The peer runs `train_one_epoch` of
open_clip_train. Both sides have one synthetic batch in memory. tercet's images are bytes, which its tower normalises;
the peer's images are already normalised. The sides take turns, and a ratio is the median over rounds of the ratio
within a round. A third side runs tercet's step on DeepSpeed in one process, where `tercet train` uses plain torch: the
difference is the overhead of DeepSpeed.

On a CPU, the seconds are processor time over all threads, which other programs hardly change; the JSON also has the
wall time. On a GPU, the seconds are wall time.

The texts fill the context, except in one row with texts as long as captions.
"""

import logging
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from tercet.benchmarks.progress import announced
from tercet.benchmarks.step.case import LENGTH, Precision, StepCase
from tercet.benchmarks.step.clock import Side, StepTimes, middle, ratios, take_turns
from tercet.benchmarks.step.ours import OurSide
from tercet.benchmarks.step.peer import PeerSide
from tercet.benchmarks.table import BenchRow
from tercet.distributed import joined
from tercet.errors import UserError
from tercet.parser import Parser

ON_CPU, ON_GPU = "ViT-S-32,ViT-B-32", "ViT-B-32,ViT-B-16,ViT-L-14"
PEER = "open_clip_train"
CAPTION = 32  # tokens: the longest of a few dozen captions from the web
ZERO = 1  # the default ZeRO stage of recipes


def run(arguments: Sequence[str]) -> list[BenchRow]:
    cuda = torch.cuda.is_available()
    options = read_options(arguments, cuda)
    logging.disable(logging.WARNING)  # DeepSpeed warns about the optimizer, open_clip about random weights
    clock = "wall" if cuda else "process CPU"
    precision: Precision = "bf16" if cuda else "fp32"
    names = options.models.split(",")
    with joined() as world:
        cases = [StepCase(name, options.batch, precision, world.device) for name in names]
        short = replace(cases[0], tokens=options.tokens)
        parts: dict[str, Callable[[], list[BenchRow]]] = {
            **{where(case): partial(full_texts, case, options, clock) for case in cases},
            f"{where(short)}, short texts": lambda: [short_texts(short, options, clock)],
        }
        rows = [row for part in announced(list(parts)) for row in parts[part]()]
    return rows if cuda else [*rows, *map(not_measured, ON_GPU.split(","))]


def read_options(arguments: Sequence[str], cuda: bool) -> Namespace:
    parser = Parser(prog="tercet bench step", description=__doc__)
    parser.add_argument(
        "--models",
        default=ON_GPU if cuda else ON_CPU,
        metavar="NAME,…",
        help="models of open_clip (default: %(default)s)",
    )
    parser.add_argument(
        "--batch", type=int, default=256 if cuda else 32, metavar="N", help="pairs in a step (default: %(default)s)"
    )
    parser.add_argument("--tokens", type=int, default=CAPTION, metavar="N", help="tokens in short texts (default: 32)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="number of rounds (default: 5)")
    parser.add_argument(
        "--steps", type=int, default=10 if cuda else 1, metavar="N", help="steps in each round (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    if options.batch < 2 or options.rounds < 1 or options.steps < 1 or not 1 < options.tokens <= LENGTH:
        raise UserError(f"give --rounds and --steps of 1 or more, --batch of 2 or more, --tokens from 2 to {LENGTH}")
    return options


def full_texts(case: StepCase, options: Namespace, clock: str) -> list[BenchRow]:
    """Rows with texts that fill the context: tercet against the peer, and the overhead of DeepSpeed."""
    plain = OurSide(case)
    sides: dict[str, Side] = {"ours": plain, "peer": PeerSide(case), "deepspeed": OurSide(case, deepspeed=True)}
    times = take_turns(sides, options.rounds, options.steps)
    ours, peer, deepspeed = times["ours"], times["peer"], times["deepspeed"]
    weights = sum(parameter.numel() for parameter in plain.model.parameters())
    sizes = sizes_of(case, options, clock) | {"parameters": weights}
    over = ratios(deepspeed.of(clock), ours.of(clock))
    return [
        against_peer(f"step of {where(case)}", ours, peer, sizes),
        compared(f"DeepSpeed, {where(case)}", deepspeed, ours, "plain torch", over, sizes | {"zero": ZERO}),
    ]


def short_texts(case: StepCase, options: Namespace, clock: str) -> BenchRow:
    """A row with texts as long as captions. tercet skips the padding after them; the peer computes it."""
    times = take_turns({"ours": OurSide(case), "peer": PeerSide(case)}, options.rounds, options.steps)
    name = f"step of {where(case)}, texts of {case.tokens} tokens"
    return against_peer(name, times["ours"], times["peer"], sizes_of(case, options, clock))


def against_peer(name: str, ours: StepTimes, peer: StepTimes, sizes: dict[str, Any]) -> BenchRow:
    clock = sizes["clock"]
    return compared(name, ours, peer, PEER, ratios(peer.of(clock), ours.of(clock)), sizes)


def where(case: StepCase) -> str:
    return f"{case.model} on a {'GPU' if case.device.type == 'cuda' else 'CPU'}"


def sizes_of(case: StepCase, options: Namespace, clock: str) -> dict[str, Any]:
    return case.sizes() | {"threads": torch.get_num_threads(), "rounds": options.rounds, "clock": clock}


def compared(
    name: str, one: StepTimes, other: StepTimes, other_name: str, found: list[float], sizes: dict[str, Any]
) -> BenchRow:
    """A row with the medians on the clock in `sizes`. `beyond` has all rounds of both sides on both clocks."""
    both = {"wall": (one.wall, other.wall), "process CPU": (one.cpu, other.cpu)}
    rounds = {f"seconds, {clock}": [[round(t, 4) for t in side] for side in sides] for clock, sides in both.items()}
    mine, theirs = middle(one.of(sizes["clock"])), middle(other.of(sizes["clock"]))
    beyond = {"ratios": found, **rounds}
    return BenchRow(name, mine, theirs, other_name, middle(found), unit="s", sizes=sizes, beyond=beyond)


def not_measured(model: str) -> BenchRow:
    return BenchRow(f"{model} on a GPU: not measured, there is none", peer_name=PEER)
