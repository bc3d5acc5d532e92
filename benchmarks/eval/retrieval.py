"""Retrieval beside CLIP_benchmark: the same R@k, in less time, without the matrix of all scores.

Both sides get the same vectors: one caption of each picture. CLIP_benchmark's own function runs on a model that returns
them, in batches of its usual 64. The sides take turns; each peak of memory is that of a new process, above the vectors.
On a machine with a GPU, one more row has the time there, and how far its R@k are from those of the CPU.
"""

import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.benchmarks.loader.pace import ratio
from tercet.benchmarks.loss.memory import extra_bytes, return_what_is_freed
from tercet.benchmarks.table import BenchRow
from tercet.distributed import World
from tercet.errors import UserError
from tercet.eval.ranking.ranking import ALONE, rank
from tercet.testing import on_ranks

DIM, DEPTHS, BATCH = 512, (1, 5, 10), 64
PEER = "CLIP_benchmark"
PATIENCE = 3600  # seconds, for a process on a slow machine

Recalls = dict[str, float]


def rows(options: Namespace) -> list[BenchRow]:
    return [
        *beside_peer(options.items, options.rounds),
        *at_scale(options.items, options.large),
        *(on_gpu(options.large, World(device=torch.device("cuda", 0))) if torch.cuda.is_available() else []),
    ]


def pictures_and_texts(items: int) -> tuple[Tensor, Tensor]:
    """Unit vectors that are alike for each item."""
    random = torch.Generator().manual_seed(0)
    picture, noise = torch.randn(2, items, DIM, generator=random)
    return normalize(picture, dim=1), normalize(picture + 5 * noise, dim=1)


def ours(image_nd: Tensor, text_nd: Tensor, world: World = ALONE) -> Recalls:
    group_n = torch.arange(len(image_nd))
    found = {
        "image": rank(text_nd, image_nd, group_n, group_n, world=world).rank,
        "text": rank(image_nd, text_nd, group_n, group_n, world=world).rank,
    }
    return {f"{name} R@{k}": float((rank_n <= k).double().mean()) for name, rank_n in found.items() for k in DEPTHS}


class Vectors:
    """The vectors as CLIP_benchmark's model, tokenizer and loader."""

    def __init__(self, image_nd: Tensor, text_nd: Tensor) -> None:
        self.image_nd, self.text_nd = image_nd, text_nd

    def encode_image(self, rows: Tensor) -> Tensor:
        return rows

    encode_text = encode_image

    def tokens(self, texts: list[str]) -> Tensor:
        return self.text_nd[torch.tensor([int(text) for text in texts])]

    def __iter__(self) -> Iterator[tuple[Tensor, list[list[str]]]]:
        for first in range(0, len(self.image_nd), BATCH):
            batch = self.image_nd[first : first + BATCH]
            yield batch, [[str(first + row)] for row in range(len(batch))]


def theirs(image_nd: Tensor, text_nd: Tensor) -> Recalls:
    try:
        from clip_benchmark.metrics.zeroshot_retrieval import evaluate
    except ImportError:
        raise UserError("this benchmark compares with CLIP_benchmark: pip install clip-benchmark") from None
    given = Vectors(image_nd, text_nd)
    found = evaluate(given, given, given.tokens, "cpu", amp=False, recall_k_list=list(DEPTHS))
    return {f"{name} R@{k}": found[f"{name}_retrieval_recall@{k}"] for name in ("image", "text") for k in DEPTHS}


SIDES: dict[str, Callable[[Tensor, Tensor], Recalls]] = {"ours": ours, "peer": theirs}


def beside_peer(items: int, rounds: int) -> list[BenchRow]:
    return_what_is_freed()  # or the process of CLIP_benchmark grows beyond what it needs at any moment
    given = pictures_and_texts(items)
    for side in SIDES.values():
        side(*(one[:BATCH] for one in given))
    seconds: dict[str, list[float]] = {who: [] for who in SIDES}
    recalls: dict[str, Recalls] = {}
    for _ in range(rounds):
        for who, side in SIDES.items():
            start = time.perf_counter()
            recalls[who] = side(*given)
            seconds[who].append(time.perf_counter() - start)
    peaks = {who: peak(who, items) for who in SIDES}
    apart = max(abs(recalls["ours"][name] - value) for name, value in recalls["peer"].items())
    sizes = {**_sizes(items), "rounds": rounds}
    mine, peer = (median(seconds[who]) for who in SIDES)
    return [
        BenchRow("retrieval R@k", apart, peer_name=PEER, sizes=sizes, beyond={"recalls": recalls}),
        BenchRow(
            "retrieval time", mine, peer, PEER, ratio(seconds["ours"], seconds["peer"]), unit="s", sizes=sizes,
            beyond={"seconds": seconds},
        ),
        BenchRow(
            "retrieval memory", peaks["ours"] / 2**20, peaks["peer"] / 2**20, PEER, peaks["ours"] / peaks["peer"],
            unit="MiB", sizes=sizes,
        ),
    ]  # fmt: skip


def at_scale(items: int, large: int) -> list[BenchRow]:
    """More items, without a peer: its matrix would grow with their square."""
    first, last = peak("ours", items), peak("ours", large)
    given = pictures_and_texts(large)
    start = time.perf_counter()
    ours(*given)
    seconds = time.perf_counter() - start
    beyond = {"seconds": seconds, "MiB of all scores": large**2 * 4 / 2**20}
    grown = (last / large) / (first / items)
    row = BenchRow(
        "retrieval memory of many items", last / 2**20, ratio=grown, unit="MiB", sizes=_sizes(large), beyond=beyond
    )
    return [row]


def on_gpu(items: int, world: World) -> list[BenchRow]:
    given = pictures_and_texts(items)
    ours(given[0][:BATCH], given[1][:BATCH], world)  # loads libraries
    seconds, found = [], [ours(*given)]

    def timed() -> None:
        start = time.perf_counter()
        found.append(ours(*given, world))
        seconds.append(time.perf_counter() - start)

    extra = extra_bytes(timed, world.device)
    apart = max(abs(found[1][name] - value) for name, value in found[0].items())
    sizes = {**_sizes(items), "device": torch.cuda.get_device_name(world.device)}
    beyond = {"R@k apart from the CPU": apart, "MiB on the device": extra / 2**20}
    return [BenchRow("retrieval time on the GPU", seconds[0], unit="s", sizes=sizes, beyond=beyond)]


def _sizes(items: int) -> dict[str, int | str]:
    return {"items": items, "dim": DIM, "threads": torch.get_num_threads(), "device": "cpu"}


def peak(who: str, items: int) -> int:
    found: int = on_ranks(_peak, 1, who, items, timeout=PATIENCE)[0]
    return found


def _peak(world: World, who: str, items: int) -> int:
    return_what_is_freed()
    side, given = SIDES[who], pictures_and_texts(items)
    side(*(one[:BATCH] for one in given))  # loads libraries
    return extra_bytes(partial(side, *given), world.device)
