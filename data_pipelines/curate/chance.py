"""Random numbers that belong to a sample, so that draws depend on neither workers nor the order of rows.

Shape letters: N samples.
"""

from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tercet.data_pipelines.curate.engines import arrow
from tercet.data_pipelines.seeding import keys, uniforms

LEAST = 2.0**-54  # half a step of the uniform numbers, whose logarithm exists


def items(source: str, id_N: ArrayLike) -> NDArray[np.uint64]:
    """A number for each sample of a source."""
    return keys("sample", crc32(source.encode()), 0, id_N)


def uniform(purpose: str, seed: int, item_N: NDArray[np.uint64]) -> NDArray[np.float64]:
    """A number in [0, 1) for each sample."""
    drawn_N: NDArray[np.float64] = uniforms(purpose, seed, 0, item_N, 1)[:, 0]
    return drawn_N


def gumbel(purpose: str, seed: int, item_N: NDArray[np.uint64], turn: int = 0) -> NDArray[np.float64]:
    """Standard Gumbel noise, another one in each turn.

    The k largest of score + noise are k draws without replacement with p ~ exp(score) (Kool et al. 2019).
    """
    drawn_N = uniforms(purpose, seed, turn, item_N, 1)[:, 0]
    noise_N: NDArray[np.float64] = -np.log(-np.log(np.maximum(drawn_N, LEAST)))
    return noise_N


def gumbel_of_rows(source: Any, id: Any, seed: Any) -> Any:
    """The noise as a function of DuckDB, of columns of sources, ids and a seed."""
    sources, ids, seeds = (column.combine_chunks() for column in (source, id, seed))
    codes = sources.dictionary_encode()
    code_N, id_N, noise_N = codes.indices.to_numpy(), ids.to_numpy(), np.empty(len(ids))
    for code, name in enumerate(codes.dictionary.to_pylist()):
        here = code_N == code
        noise_N[here] = gumbel("sample", seeds[0].as_py(), items(name, id_N[here]))
    return arrow().array(noise_N)
