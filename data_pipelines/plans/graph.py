"""A neighbour graph: for each sample of a source, others that are like it, best first.

It is a column (`data_pipelines/columns.py`) with `neighbors` [n, K], ids within the same source, -1 for none, and
`scores` [n, K], the similarity of each. It may have `positive` [n], the score of the sample's own pair, for margins.
`tercet data mine` writes such graphs, and so can any other program.

Shape letters: N samples of the source, n of a file, K neighbours of each in the graph, k of them considered.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from xxhash import xxh3_64_hexdigest

from tercet.data_pipelines.columns import Column, column_digest, read_pieces
from tercet.data_pipelines.composition import EPISODE, NeighborsConfig
from tercet.data_pipelines.plans.order import Ints
from tercet.data_pipelines.plans.sample_list import SampleList
from tercet.data_pipelines.source import Source
from tercet.errors import UserError
from tercet.plural import number_of

NONE = -1


@dataclass(frozen=True)
class NeighborGraph:
    """The neighbours that each sample may bring into a batch, best first; `count_N` of them, then -1."""

    folder: str
    digest: str  # of the graph and of the options that say who is eligible
    neighbor_Nk: Ints
    count_N: Ints

    def to_json(self) -> dict[str, object]:
        none = int(np.count_nonzero(self.count_N == 0))
        mean = float(self.count_N.mean())
        return {"folder": self.folder, "digest": self.digest, "neighbors": mean, "without": none}

    def __str__(self) -> str:
        if self.folder == EPISODE:
            return "the graph of the first episode; other samples take their places until then"
        without = np.count_nonzero(self.count_N == 0)
        return (
            f"{self.folder} (digest {self.digest}): {self.count_N.mean():.3g} neighbours a sample, "
            f"{number_of(int(without), 'sample')} without any"
        )


def read_graph(config: NeighborsConfig, source: Source, listed: SampleList | None = None) -> NeighborGraph:
    """The graph of a source, with the neighbours that the options and the list allow.

    Before the first episode, its graph is empty. Other samples take the places of neighbours then.
    """
    if config.graph == EPISODE:
        return NeighborGraph(EPISODE, "", np.zeros((len(source), 0), np.int64), np.zeros(len(source), np.int64))
    check_graph(config.graph)
    width = 0
    kept: list[tuple[Ints, Ints]] = []
    for piece in read_pieces(Path(config.graph), source.fingerprint):
        _check(piece, config, len(source))
        neighbor_nk = _eligible(piece, config, listed)
        kept.append((piece.id_n, neighbor_nk))
        width = max(width, neighbor_nk.shape[1])
    neighbor_Nk = np.full((len(source), width), NONE, dtype=np.int64)
    for id_n, neighbor_nk in kept:
        neighbor_Nk[id_n, : neighbor_nk.shape[1]] = neighbor_nk
    count_N = (neighbor_Nk != NONE).sum(axis=1)
    if not count_N.any():
        raise UserError(f"{config.graph} has no eligible neighbour of any sample; relax the options of `neighbors`")
    options = config.model_dump_json(exclude={"graph"})
    digest = xxh3_64_hexdigest(f"{column_digest(Path(config.graph), source.fingerprint)} {options}".encode())
    return NeighborGraph(config.graph, digest, neighbor_Nk, count_N)


def check_graph(folder: str) -> None:
    if folder != EPISODE and not Path(folder).is_dir():
        raise UserError(f"the neighbour graph {folder} does not exist; write one with `tercet data mine`")


def graph_summary(folder: str) -> str:
    """The graph in one line. Needs only its files, not the data."""
    if folder == EPISODE:
        return "made anew at each episode"
    check_graph(folder)
    samples, width = 0, 0
    for path in Path(folder).glob("*/*.safetensors"):
        with safe_open(path, "numpy") as file:
            rows, columns = file.get_slice("neighbors").get_shape()
        samples, width = samples + rows, max(width, columns)
    return f"{folder}: {number_of(samples, 'sample')}, up to {number_of(width, 'neighbour')} each"


def _check(piece: Column, config: NeighborsConfig, samples: int) -> None:
    folder, values = config.graph, piece.values
    if "neighbors" not in values or (_uses_scores(config) and "scores" not in values):
        raise UserError(f"{folder} has no `neighbors` or no `scores`: write it again with `tercet data mine`")
    if _uses_margins(config) and "positive" not in values:
        raise UserError(
            f"{folder} has no scores of own pairs, which margins need: give the margin to `tercet data mine` instead"
        )
    neighbor_nK = values["neighbors"]
    if neighbor_nK.ndim != 2 or neighbor_nK.dtype.kind != "i":
        raise UserError(f"{folder}: `neighbors` must be whole numbers, one row for each sample")
    outside = (neighbor_nK < NONE) | (neighbor_nK >= samples)
    if piece.id_n.max(initial=0) >= samples or outside.any():
        found = int(neighbor_nK[outside][0]) if outside.any() else int(piece.id_n.max())
        raise UserError(f"{folder} names the id {found}, but the ids of the source go from 0 to {samples - 1}")
    ordered_nK = np.sort(neighbor_nK, axis=1)
    twice_n = ((ordered_nK[:, 1:] == ordered_nK[:, :-1]) & (ordered_nK[:, 1:] != NONE)).any(axis=1)
    if twice_n.any():
        raise UserError(f"{folder} names a neighbour of the sample {piece.id_n[twice_n][0]} twice; write it again")


def _uses_margins(config: NeighborsConfig) -> bool:
    return config.absolute_margin is not None or config.relative_margin is not None


def _uses_scores(config: NeighborsConfig) -> bool:
    return _uses_margins(config) or config.min_score is not None or config.max_score is not None


def _eligible(piece: Column, config: NeighborsConfig, listed: SampleList | None) -> Ints:
    """The ranks that the options name; of these, those with an allowed score and a place in the list come first."""
    ranks = slice(config.range_min, config.range_max)
    neighbor_nk: Ints = piece.values["neighbors"][:, ranks].astype(np.int64)
    allowed_nk = (neighbor_nk != NONE) & (neighbor_nk != piece.id_n[:, None])
    if _uses_scores(config):
        allowed_nk &= _within_bounds(piece, config, piece.values["scores"][:, ranks])
    if listed is not None:
        allowed_nk &= (listed.times_N > 0)[neighbor_nk]
    order_nk = np.argsort(~allowed_nk, axis=1, kind="stable")
    packed_nk: Ints = np.take_along_axis(np.where(allowed_nk, neighbor_nk, NONE), order_nk, axis=1)
    return packed_nk


def _within_bounds(piece: Column, config: NeighborsConfig, score_nk: NDArray[np.floating]) -> NDArray[np.bool_]:
    """A score of NaN is not within bounds. Without the score of an own pair, NaN, margins leave no neighbour out."""
    least = -np.inf if config.min_score is None else config.min_score
    most = np.inf if config.max_score is None else config.max_score
    within_nk: NDArray[np.bool_] = (score_nk >= least) & (score_nk <= most)
    if config.absolute_margin is not None:
        within_nk &= ~(score_nk > piece.values["positive"][:, None] - config.absolute_margin)
    if config.relative_margin is not None:
        positive_n1 = piece.values["positive"][:, None]
        within_nk &= ~(score_nk > positive_n1 - config.relative_margin * np.abs(positive_n1))
    return within_nk
