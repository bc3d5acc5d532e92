"""The neighbour graph of a source: a column of the negatives of each sample.

    neighbors [n, K] int64    ids within the same source, best first, and -1 where a sample has fewer
    scores [n, K] float32     their cosines, and minus infinity for nothing
    positive [n] float32      the cosine of the sample's own positive, and NaN without one

A sample without the modality of the queries has no row.
"""

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import numpy as np

from tercet.data_pipelines import columns
from tercet.data_pipelines.columns import Column, write_column
from tercet.training.mining.rules import Candidates, Negatives

Rows = tuple[Candidates, Negatives]


def write_graph(folder: Path, fingerprint: str, rows: Iterable[Rows]) -> None:
    """Writes the negatives of samples, whose ids come in ascending order. Memory holds one file of the column."""
    some = ((candidates, negatives) for candidates, negatives in rows if len(candidates.id_q))
    for _, file in groupby(some, lambda row: row[0].id_q[0] // columns.PIECE):
        write_column(folder, fingerprint, _column(list(file)))


def _column(rows: list[Rows]) -> Column:
    values = {
        "neighbors": np.concatenate([negatives.id_qK for _, negatives in rows]),
        "scores": np.concatenate([negatives.score_qK for _, negatives in rows]),
        "positive": np.concatenate([candidates.positive_q for candidates, _ in rows]),
    }
    return Column(np.concatenate([candidates.id_q for candidates, _ in rows]), values)
