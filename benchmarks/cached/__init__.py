"""Measures runs on stored features: the loader alone, and a step beside a plain loop over tensors in memory.

- The loader: samples per second, of a vector for each of two modalities. The files are in the system's cache. Beside
  it, the tensors in memory are indexed at random.
- A step: an MLP leads the stored features of either modality into one space, with the loss of CLIP over the batch.
  tercet runs the loader, the step and the optimizer of `tercet train`. The peer is a plain loop: the same MLPs,
  `index_select` of tensors in memory, the whole matrix of logits, autograd, and AdamW.

The sides take turns in one process, and a ratio is the median over rounds of the ratio within a round. Seconds are wall
time; the JSON also has processor time.
"""

from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tercet.benchmarks.cached.case import CachedCase
from tercet.benchmarks.cached.loading import loader_row
from tercet.benchmarks.cached.stepping import step_row
from tercet.benchmarks.progress import announced
from tercet.benchmarks.table import BenchRow
from tercet.errors import UserError
from tercet.parser import Parser


def run(arguments: Sequence[str]) -> list[BenchRow]:
    options = read_options(arguments)
    with TemporaryDirectory() as folder:
        case = CachedCase(Path(folder), options.samples, options.width, options.batch)
        case.write()
        parts: dict[str, Callable[[], BenchRow]] = {
            "the loader": lambda: loader_row(case, options.rounds),
            "a step": lambda: step_row(case, options.rounds, options.steps),
        }
        return [parts[part]() for part in announced(list(parts))]


def read_options(arguments: Sequence[str]) -> Namespace:
    parser = Parser(prog="tercet bench cached", description=__doc__)
    parser.add_argument("--samples", type=int, default=131_072, metavar="N", help="stored samples (default: 131072)")
    parser.add_argument("--width", type=int, default=512, metavar="D", help="dimensions of a vector (default: 512)")
    parser.add_argument("--batch", type=int, default=4_096, metavar="N", help="samples of a batch (default: 4096)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="number of rounds (default: 5)")
    parser.add_argument("--steps", type=int, default=2, metavar="N", help="steps in each round (default: 2)")
    options = parser.parse_args(arguments)
    if min(options.rounds, options.steps, options.width) < 1 or not 2 <= options.batch <= options.samples:
        raise UserError("give --rounds, --steps and --width of 1 or more, and --batch of 2 to --samples")
    return options
