"""The inner products of all pairs of two sets of vectors, on the accelerator of a rank if it has one.

Vectors and results lie on the CPU. The device gets all candidates and a tile of queries at a time, so that memory there
grows with the samples and not with the pairs. `inner` computes every product in the precision of its vectors, so that
devices differ by rounding alone, which `TIE` of `ranking.py` covers.

Shape letters: Q queries, T queries of a tile, C candidates, D dimensions, k nearest, N and M vectors.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from tercet.distributed import CPU, World

FEW = 10_000  # products, which a CPU computes in less time than the way to an accelerator takes
TILE = 256  # queries


def device_for(queries_QD: Tensor, candidates_CD: Tensor, world: World) -> torch.device:
    """Where to compute with all pairs of these vectors."""
    return world.device if len(queries_QD) * len(candidates_CD) > FEW else CPU


def inner(x_ND: Tensor, y_MD: Tensor) -> Tensor:
    """The inner products `[N, M]`, on the device of the vectors."""
    with _full_precision():
        return x_ND @ y_MD.T


@contextmanager
def _full_precision() -> Iterator[None]:
    """Meanwhile torch may not compute products of fp32 in TF32 or bf16, as its settings allow it to: such products are
    off by 1e-3. Its older setting also writes the newer ones, and torch refuses to multiply where they disagree."""
    newer = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in newer]
    try:
        older = torch.get_float32_matmul_precision()
    except RuntimeError:  # only the newer ones were set
        older = "highest"
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(older)
        for backend, precision in zip(newer, before, strict=True):
            backend.fp32_precision = precision


def products(x_ND: Tensor, y_MD: Tensor, world: World) -> Tensor:
    """All inner products `[N, M]` at once."""
    device = device_for(x_ND, y_MD, world)
    return inner(x_ND.to(device), y_MD.to(device)).cpu()


def tiles(queries_QD: Tensor, candidates_CD: Tensor, world: World) -> Iterator[tuple[slice, Tensor]]:
    """Some queries at a time, and their products with all candidates `[T, C]`, which stay on the device."""
    device = device_for(queries_QD, candidates_CD, world)
    candidates_CD = candidates_CD.to(device)
    for first in range(0, len(queries_QD), TILE):
        some = slice(first, first + TILE)
        yield some, inner(queries_QD[some].to(device), candidates_CD)


class Nearest(NamedTuple):
    """The nearest candidates of each query, best first, and their products."""

    product_Qk: Tensor
    candidate_Qk: Tensor


def nearest(
    queries_QD: Tensor, candidates_CD: Tensor, k: int, world: World, apart: tuple[Tensor, Tensor] | None = None
) -> Nearest:
    """`apart`: the groups of the queries and of the candidates. Then a candidate of the query's own group counts as
    infinitely far."""
    k = min(k, len(candidates_CD))
    found = [Nearest(torch.zeros(0, k, dtype=queries_QD.dtype), torch.zeros(0, k, dtype=torch.long))]
    for some, product_TC in tiles(queries_QD, candidates_CD, world):
        if apart is not None:
            group_T, group_C = apart[0][some].to(product_TC.device), apart[1].to(product_TC.device)
            product_TC = product_TC.masked_fill(group_T[:, None] == group_C, -torch.inf)
        found.append(Nearest(*(best_Tk.cpu() for best_Tk in product_TC.topk(k, dim=1))))
    return Nearest(*(torch.cat(parts) for parts in zip(*found, strict=True)))
