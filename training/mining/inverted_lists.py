"""An approximate search with faiss (extra `faiss`), for data on which comparing all pairs takes too long.

The vectors are divided into inverted lists, of which a query looks through the nearest ones (Jégou et al., 2011). Up to
`FLAT` rows there are no lists, and the search is exact. The first rank builds the index and the others read it, so the
result does not depend on their number. The index and the marks of all samples are in memory.

Shape letters: q queries, k best, R rows of the queries, D dimensions, m marks of a kind, p pairs, e marks of pairs.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tercet.errors import UserError
from tercet.training.mining.equal import Ids, Marks
from tercet.training.mining.nearest import NONE, Found, Piece
from tercet.whole_file import whole_file

FLAT = 10_000  # rows up to which every query is compared with all of them
PER_LIST = 39  # rows of a list, at least, as faiss recommends
TRAINED_ON = 64  # rows for each list from which the lists are learnt
VISITED = 16  # of so many lists a query looks through one, and through so many at least
MORE = 4  # times as many candidates, if too many of the first ones are equal to their query


def load_faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise UserError("use_faiss needs faiss; pip install 'tercet[faiss]', or leave the option out") from error
    return faiss


def build_index(piece: Callable[[int], Piece], pieces: int, path: Path) -> None:
    """Writes the index of the rows of all candidates, under the ids of their samples."""
    faiss = load_faiss()
    rows, dim = sum(len(piece(number).item_R) for number in range(pieces)), piece(0).rows_RD.shape[1]
    lists = min(round(4 * rows**0.5), rows // PER_LIST)
    index = faiss.index_factory(dim, f"IVF{lists},Flat" if rows > FLAT else "IDMap,Flat", faiss.METRIC_INNER_PRODUCT)
    if not index.is_trained:
        step = max(rows // (TRAINED_ON * lists), 1)
        index.train(np.concatenate([piece(number).rows_RD.numpy() for number in range(0, pieces, step)]))
    for some in map(piece, range(pieces)):
        index.add_with_ids(some.rows_RD.numpy(), some.id_n[some.item_R.numpy()])
    with whole_file(path) as draft:
        faiss.write_index(index, str(draft))


@dataclass(frozen=True)
class MarksById:
    """The marks of all samples of one kind, in the order of their ids."""

    id_m: Ids
    code_m: NDArray[np.uint64]

    @classmethod
    def of(cls, marks: Marks) -> "MarksById":
        order = np.argsort(marks.id_m, kind="stable")
        return cls(marks.id_m[order], marks.code_m[order])

    def shared(self, one_p: Ids, other_p: Ids) -> NDArray[np.bool_]:
        """Whether the two samples of each pair share a mark."""
        pair_e, code_e = self._expanded(one_p)
        pair_f, code_f = self._expanded(other_p)
        marks = np.unique(np.concatenate([code_e, code_f]))
        key_e, key_f = (
            pair * len(marks) + np.searchsorted(marks, code) for pair, code in ((pair_e, code_e), (pair_f, code_f))
        )
        shared_p = np.zeros(len(one_p), dtype=np.bool_)
        shared_p[pair_e[np.isin(key_e, key_f)]] = True
        return shared_p

    def _expanded(self, id_p: Ids) -> tuple[Ids, NDArray[np.uint64]]:
        """The marks of these samples, one after the other, and the pair that each is of."""
        low_p = np.searchsorted(self.id_m, id_p, side="left")
        count_p = np.searchsorted(self.id_m, id_p, side="right") - low_p
        first_p = np.cumsum(count_p) - count_p
        at_e = np.arange(count_p.sum()) + np.repeat(low_p - first_p, count_p)
        return np.repeat(np.arange(len(id_p)), count_p), self.code_m[at_e]


class InvertedLists:
    """Searches an index for the candidates of queries, whose ids are `id_c`, ascending.

    Pairs of equal samples count only among those that are found.
    """

    def __init__(self, path: Path, marks: Mapping[str, MarksById], id_c: Ids) -> None:
        faiss = load_faiss()
        self._index = faiss.read_index(str(path))
        if hasattr(self._index, "nlist"):
            self._index.nprobe = min(max(self._index.nlist // VISITED, VISITED), self._index.nlist)
        self._marks, self._id_c = marks, id_c

    def search(self, queries: Piece, k: int) -> Found:
        """Asks for more until every query has enough that are not equal to it, or no more are found."""
        asked = 2 * k
        while True:
            found, exhausted = self._first(queries, k, min(asked, self._index.ntotal))
            if exhausted or asked >= self._index.ntotal:
                return found
            asked *= MORE

    def _first(self, queries: Piece, k: int, asked: int) -> tuple[Found, bool]:
        """The best k of so many rows for each row of the queries, and whether asking for more is of no use."""
        score_Rk, id_Rk = self._index.search(queries.rows_RD.numpy(), asked)
        item_p = np.repeat(queries.item_R.numpy(), asked)
        score_p, id_p = score_Rk.flatten(), id_Rk.flatten()
        order = np.lexsort((id_p, -score_p, item_p))
        item_p, score_p, id_p = (values[order][id_p[order] != NONE] for values in (item_p, score_p, id_p))
        first = np.unique(np.stack([item_p, id_p]), axis=1, return_index=True)[1]  # of the rows of a sample, the best
        item_p, score_p, id_p = (values[np.sort(first)] for values in (item_p, score_p, id_p))
        kept_p = id_p != queries.id_n[item_p]
        equal = Counter[str]()
        for kind, marks in self._marks.items():
            shared_p = kept_p & marks.shared(queries.id_n[item_p], id_p)
            equal[kind] = int(np.count_nonzero(shared_p))
            kept_p &= ~shared_p
        item_p, score_p, id_p = item_p[kept_p], score_p[kept_p], id_p[kept_p]
        rank_p = np.arange(len(item_p)) - np.searchsorted(item_p, item_p)
        best_p = rank_p < k
        shape = (len(queries.id_n), k)
        id_qk, score_qk = np.full(shape, NONE, dtype=np.int64), np.full(shape, -np.inf, dtype=np.float32)
        at = item_p[best_p], rank_p[best_p]
        id_qk[at], score_qk[at] = id_p[best_p], score_p[best_p]
        lacking_q = np.bincount(item_p, minlength=len(queries.id_n)) < k
        ended_q = np.zeros(len(queries.id_n), dtype=np.bool_)
        ended_q[queries.item_R[(id_Rk == NONE).any(axis=1)].numpy()] = True
        compared = len(queries.id_n) * len(self._id_c) - int(np.isin(queries.id_n, self._id_c).sum())
        found = Found(id_qk, score_qk, equal, compared)
        return found, bool((~lacking_q | ended_q).all())
