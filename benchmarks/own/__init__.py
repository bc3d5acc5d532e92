"""Compares `tercet.loss` with open_clip's `ClipLoss` in a user's own training loop, and a CSV of pictures with
shards.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from tercet.benchmarks.device import takes_device
from tercet.benchmarks.own.loop import Size, loop_rows
from tercet.benchmarks.own.table import table_row
from tercet.benchmarks.progress import announced
from tercet.benchmarks.table import BenchRow
from tercet.errors import UserError
from tercet.parser import Parser


def run(arguments: Sequence[str]) -> list[BenchRow]:
    parser = Parser(prog="tercet bench own", description=__doc__)
    takes_device(parser)
    parser.add_argument(
        "--ranks", type=int, metavar="N", help="processes of the loop (default: 2, or one for each GPU)"
    )
    parser.add_argument("--rows", type=int, default=8192, metavar="N", help="rows over all ranks (default: 8192)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="number of rounds (default: 5)")
    options = parser.parse_args(arguments)
    cuda = options.device == "cuda"
    ranks = options.ranks or (torch.cuda.device_count() if cuda else 2)
    if options.rounds < 1 or ranks < 1 or options.rows % ranks or options.rows < ranks:
        raise UserError("give --rounds and --ranks of 1 or more, and as --rows a multiple of --ranks")
    with TemporaryDirectory() as folder:
        parts: dict[str, Callable[[], list[BenchRow]]] = {
            "the training loop": lambda: loop_rows(Size(ranks, options.rows, options.rounds, cuda)),
            "the table of pictures": lambda: [table_row(Path(folder), options.rounds)],
        }
        return [row for part in announced(list(parts)) for row in parts[part]()]
