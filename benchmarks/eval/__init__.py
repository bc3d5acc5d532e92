"""Measures evaluation: its numbers, times and memory beside those of other evaluators.

- *Retrieval*: R@1, R@5 and R@10 in both directions, beside CLIP_benchmark, which keeps the matrix of all scores; see
  `retrieval.py`.
- *Round trips*: vectors of exported models, as other libraries and tercet read them; see `round_trips.py`.
- *ONNX*: the graph of each tower beside the tower, in fp32, fp16 and int8; see `onnx_towers.py`.
- *Parity*: the numbers of CLIP_benchmark, MTEB, scikit-learn and torchmetrics on the same data; see `parity.py`.
- *Embedding*: samples per second beside a plain loop over the same towers and files; see `embedding.py`.

Each part is a module with `rows(options) -> list[BenchRow]`. Options: `--part NAME…`, `--items 20000`,
`--large 100000`, `--pictures 1000`, `--rounds 3`.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence

from tercet.benchmarks.eval import embedding, onnx_towers, parity, retrieval, round_trips
from tercet.benchmarks.progress import announced
from tercet.benchmarks.table import BenchRow
from tercet.errors import UserError

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
    parser = ArgumentParser("tercet bench eval")
    parser.add_argument("--part", nargs="+", default=list(PARTS), choices=list(PARTS), help="what to measure")
    parser.add_argument("--items", type=int, default=20_000, metavar="N", help="beside the peer (default: 20000)")
    parser.add_argument("--large", type=int, default=100_000, metavar="N", help="without a peer (default: 100000)")
    parser.add_argument("--pictures", type=int, default=1_000, metavar="N", help="to embed (default: 1000)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="number of rounds (default: 3)")
    options = parser.parse_args(arguments)
    if min(options.rounds, options.pictures) < 1 or not 20 <= options.items <= options.large:
        raise UserError("give --rounds and --pictures of 1 or more, and --items of 20 to --large")
    return options
