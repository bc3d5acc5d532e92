"""A training step beside open_clip_train's: seconds a step, with the same towers, batch, precision and AdamW.

tercet runs the engine, the optimizer and the step that `tercet train` runs. The peer is open_clip_train's own
`train_one_epoch`. Both sides get one synthetic batch in memory: tercet images as bytes, which its tower normalises; the
peer images that are normalised already. The sides take turns; a ratio is the median over rounds of the ratio within a
round. A third side runs tercet's step on DeepSpeed in one process, where `tercet train` uses plain torch: what it takes
longer is DeepSpeed's overhead.

On a CPU the seconds are those of the processor over all threads, which other programs hardly change; the seconds on the
wall stand beside them in the JSON. On a GPU they are seconds on the wall.

Texts fill the context, except in one row, where they are as long as captions.

Options: `--models ViT-S-32,ViT-B-32`, `--batch 32`, `--tokens 32` of short texts, `--rounds 5`, `--steps 1` of a round.
"""

import logging
from argparse import ArgumentParser, Namespace
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

ON_CPU, ON_GPU = "ViT-S-32,ViT-B-32", "ViT-B-32,ViT-B-16,ViT-L-14"
PEER = "open_clip_train"
CAPTION = 32  # tokens: the longest of a few dozen captions from the web
ZERO = 1  # the stage that recipes have by default


def run(arguments: Sequence[str]) -> list[BenchRow]:
    cuda = torch.cuda.is_available()
    options = read_options(arguments, cuda)
    logging.disable(logging.WARNING)  # DeepSpeed's about the optimizer, open_clip's about random weights
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
    parser = ArgumentParser("tercet bench step")
    parser.add_argument("--models", default=ON_GPU if cuda else ON_CPU, metavar="NAME,…", help="models of open_clip")
    parser.add_argument("--batch", type=int, default=256 if cuda else 32, metavar="N", help="pairs of a step")
    parser.add_argument("--tokens", type=int, default=CAPTION, metavar="N", help="of short texts (default: 32)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="how often each side runs (default: 5)")
    parser.add_argument("--steps", type=int, default=10 if cuda else 1, metavar="N", help="steps in each round")
    options = parser.parse_args(arguments)
    if options.batch < 2 or options.rounds < 1 or options.steps < 1 or not 1 < options.tokens <= LENGTH:
        raise UserError(f"give at least one of --rounds and --steps, a --batch of 2 and 2 to {LENGTH} --tokens")
    return options


def full_texts(case: StepCase, options: Namespace, clock: str) -> list[BenchRow]:
    """Texts that fill the context, so that both sides compute the same: beside the peer, and DeepSpeed's overhead."""
    plain = OurSide(case)
    sides: dict[str, Side] = {"ours": plain, "peer": PeerSide(case), "deepspeed": OurSide(case, deepspeed=True)}
    times = take_turns(sides, options.rounds, options.steps)
    ours, peer, deepspeed = times["ours"], times["peer"], times["deepspeed"]
    weights = sum(parameter.numel() for parameter in plain.model.parameters())
    sizes = sizes_of(case, options, clock) | {"parameters": weights}
    over = ratios(deepspeed.of(clock), ours.of(clock))
    return [
        beside(f"step of {where(case)}", ours, peer, sizes),
        compared(f"DeepSpeed, {where(case)}", deepspeed, ours, "plain torch", over, sizes | {"zero": ZERO}),
    ]


def short_texts(case: StepCase, options: Namespace, clock: str) -> BenchRow:
    """Texts as long as captions: tercet leaves out the padding behind them, the peer computes it."""
    times = take_turns({"ours": OurSide(case), "peer": PeerSide(case)}, options.rounds, options.steps)
    name = f"step of {where(case)}, texts of {case.tokens} tokens"
    return beside(name, times["ours"], times["peer"], sizes_of(case, options, clock))


def beside(name: str, ours: StepTimes, peer: StepTimes, sizes: dict[str, Any]) -> BenchRow:
    clock = sizes["clock"]
    return compared(name, ours, peer, PEER, ratios(peer.of(clock), ours.of(clock)), sizes)


def where(case: StepCase) -> str:
    return f"{case.model} on a {'GPU' if case.device.type == 'cuda' else 'CPU'}"


def sizes_of(case: StepCase, options: Namespace, clock: str) -> dict[str, Any]:
    return case.sizes() | {"threads": torch.get_num_threads(), "rounds": options.rounds, "clock": clock}


def compared(
    name: str, one: StepTimes, other: StepTimes, other_name: str, found: list[float], sizes: dict[str, Any]
) -> BenchRow:
    """Medians by the clock that counts; beyond them, both sides round by round on both clocks."""
    both = {"wall": (one.wall, other.wall), "process CPU": (one.cpu, other.cpu)}
    rounds = {f"seconds, {clock}": [[round(t, 4) for t in side] for side in sides] for clock, sides in both.items()}
    mine, theirs = middle(one.of(sizes["clock"])), middle(other.of(sizes["clock"]))
    beyond = {"ratios": found, **rounds}
    return BenchRow(name, mine, theirs, other_name, middle(found), unit="s", sizes=sizes, beyond=beyond)


def not_measured(model: str) -> BenchRow:
    return BenchRow(f"{model} on a GPU: not measured, there is none", peer_name=PEER)
