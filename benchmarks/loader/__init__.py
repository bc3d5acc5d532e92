"""Compares tercet's loader with webdataset and the transforms of open_clip_train: samples per second on equal cores.

Each side has two workers and starts new ones in every round. The first batches of a round do not count. The sides
alternate, and a ratio is the median over rounds of the ratio within a round. All shards are in the system's cache. The
pictures are photographs from scikit-image, as JPEG of quality 90 to 95.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from tercet.benchmarks.loader.pictures import picture_rows
from tercet.benchmarks.loader.reading import reading_rows
from tercet.benchmarks.loader.sounds import sound_rows
from tercet.benchmarks.progress import announced
from tercet.benchmarks.table import BenchRow
from tercet.errors import UserError
from tercet.parser import Parser


def run(arguments: Sequence[str]) -> list[BenchRow]:
    parser = Parser(prog="tercet bench loader", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="number of rounds (default: 5)")
    parser.add_argument(
        "--sides",
        default="256,512,1024",
        metavar="N,…",
        help="shorter sides of the pictures, in pixels (default: 256,512,1024)",
    )
    options = parser.parse_args(arguments)
    sides = [int(side) for side in options.sides.split(",") if side.isdecimal()]
    if not sides or options.rounds < 1:
        raise UserError("give --sides as whole numbers, such as 256,512,1024, and --rounds of 1 or more")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # leaves the cores to the workers
    try:
        with TemporaryDirectory() as folder:
            return _rows(Path(folder), sides, options.rounds)
    finally:
        torch.set_num_threads(threads)


def _rows(folder: Path, sides: Sequence[int], rounds: int) -> list[BenchRow]:
    parts: dict[str, Callable[[], list[BenchRow]]] = {
        "reading": lambda: reading_rows(folder / "small", rounds),
        **{
            f"pictures of {side} px": partial(picture_rows, folder / f"pictures {side}", side, rounds) for side in sides
        },
        "sounds": lambda: sound_rows(folder / "sounds", rounds),
    }
    return [row for part in announced(list(parts)) for row in parts[part]()]
