"""Measures evaluation: its numbers, times and memory beside those of other evaluators.

- Retrieval: R@1, R@5 and R@10 in both directions, beside CLIP_benchmark, which keeps the matrix of all scores.
- Round trips: vectors of exported models, as other libraries and tercet read them.
- ONNX: the graph of each tower beside the tower, in fp32, fp16 and int8.
- Parity: the numbers of CLIP_benchmark, MTEB, scikit-learn and torchmetrics on the same data.
- Embedding: samples per second beside a plain loop over the same towers and files.

Each part is a module of this package.
"""

from argparse import Namespace
from collections.abc import Callable, Sequence

from tercet.benchmarks.eval import embedding, onnx_towers, parity, retrieval, round_trips
from tercet.benchmarks.progress import announced
from tercet.benchmarks.table import BenchRow
from tercet.errors import UserError
from tercet.parser import Parser

PARTS: dict[str, Callable[[Namespace], list[BenchRow]]] = {
    "retrieval": retrieval.rows,
    "round_trips": round_trips.rows,
    "onnx": onnx_towers.rows,
    "parity": parity.rows,
    "embedding": embedding.rows,
}


def run(arguments: Sequence[str]) -> list[BenchRow]:
    options = read_options(arguments)
    return [row for part in announced(options.part) for row in PARTS[part](options)]


def read_options(arguments: Sequence[str]) -> Namespace:
    parser = Parser(prog="tercet bench eval", description=__doc__)
    parser.add_argument(
        "--part",
        nargs="+",
        default=list(PARTS),
        choices=list(PARTS),
        metavar="PART",
        help=f"some of {', '.join(PARTS)} (default: all)",
    )
    parser.add_argument(
        "--items", type=int, default=20_000, metavar="N", help="items to search beside CLIP_benchmark (default: 20000)"
    )
    parser.add_argument(
        "--large", type=int, default=100_000, metavar="N", help="items to search without it (default: 100000)"
    )
    parser.add_argument("--pictures", type=int, default=1_000, metavar="N", help="pictures to embed (default: 1000)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="number of rounds (default: 3)")
    options = parser.parse_args(arguments)
    if min(options.rounds, options.pictures) < 1 or not 20 <= options.items <= options.large:
        raise UserError("give --rounds and --pictures of 1 or more, and --items of 20 to --large")
    return options
