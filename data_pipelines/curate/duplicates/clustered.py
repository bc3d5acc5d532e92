"""The clusters of a source from the fingerprints of its samples.

Shape letters: N samples with a fingerprint, R of them that are compared, V hashes of each, C clusters.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tercet.data_pipelines.curate.duplicates.clusters import Clusters, Rows, Same
from tercet.data_pipelines.curate.duplicates.compare import Looks, Sounds
from tercet.data_pipelines.curate.engines import arrow
from tercet.data_pipelines.curate.score_group import ScoreGroup
from tercet.data_pipelines.duplicates import picture
from tercet.data_pipelines.duplicates.near import ONES
from tercet.data_pipelines.source import Source

KINDS = ("image", "audio", "text")
NONE = -1
PLAIN = 4  # bits of a dHash that are set, and not set, at least; else the picture has hardly any edges


def clustered(draft: ScoreGroup, name: str, source: Source) -> Mapping[str, NDArray[Any]]:
    """The columns of all samples with a fingerprint, by their ids."""
    found = Fingerprints.read(draft, name)
    compare: dict[str, Same] = {"image": Looks(source, found.id_N), "audio": Sounds(draft, name, found.id_N)}
    first: dict[str, Rows] = {}
    for kind in KINDS:
        row_n = np.flatnonzero(found.has[kind])
        clusters = Clusters(len(found.id_N))
        clusters.join_equal(found.exact[kind][row_n], row_n)
        if kind in compare:
            row_R, hashes = found.similar(kind)
            clusters.join_similar(row_R, hashes, compare[kind])
        first[kind] = np.where(found.has[kind], clusters.first_N, NONE)
    medium_N = (first["image"] == NONE) & (first["audio"] == NONE)
    shared = np.stack([first["image"], first["audio"], np.where(medium_N, first["text"], NONE)], axis=1)
    _, first_C, inverse_N, size_C = np.unique(
        shared, axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    together_N = first_C[inverse_N]
    named = {f"{kind}_cluster": np.where(rows == NONE, NONE, found.id_N[rows]) for kind, rows in first.items()}
    size_N = size_C[inverse_N].astype(np.int32)
    whole = {"cluster": found.id_N[together_N], "first": together_N == np.arange(len(together_N)), "size": size_N}
    return {"id": found.id_N, **whole, **named}


@dataclass(frozen=True)
class Fingerprints:
    """Those of all samples, without the words of sounds."""

    id_N: NDArray[np.int64]
    exact: Mapping[str, NDArray[np.uint64]]
    has: Mapping[str, NDArray[np.bool_]]
    looks: tuple[Rows, NDArray[np.uint64]]  # rows, and their hashes
    shapes: tuple[Rows, NDArray[np.uint64]]

    @classmethod
    def read(cls, draft: ScoreGroup, name: str) -> "Fingerprints":
        rows = arrow().Table.from_batches(list(draft.batches(name, [*KINDS, "looks", "shape"])))
        has = {kind: rows[kind].is_valid().to_numpy() for kind in (*KINDS, "looks", "shape")}
        codes = {kind: rows[kind].fill_null(0).to_numpy() for kind in (*KINDS, "shape")}
        looked = np.flatnonzero(has["looks"])
        packed = b"".join(rows["looks"].drop_null().to_pylist())
        look_RV = np.frombuffer(packed, np.uint64).reshape(len(looked), 2 * len(picture.VIEWS))
        shaped = np.flatnonzero(has["shape"])
        return cls(
            rows["id"].to_numpy(),
            {kind: codes[kind] for kind in KINDS},
            {kind: has[kind] for kind in KINDS},
            (looked, look_RV),
            (shaped, codes["shape"][shaped][:, None]),
        )

    def similar(self, kind: str) -> tuple[Rows, list[NDArray[np.uint64]]]:
        """The rows whose hashes are compared, and each kind of their hashes."""
        if kind == "audio":
            return self.shapes[0], [self.shapes[1]]
        row_R, look_RV = self.looks
        edges_R = ONES[np.ascontiguousarray(look_RV[:, len(picture.VIEWS)])[:, None].view(np.uint8)].sum(1)
        kept_R = (edges_R >= PLAIN) & (edges_R <= 64 - PLAIN)
        halves = np.split(look_RV[kept_R], 2, axis=1)
        return row_R[kept_R], [np.ascontiguousarray(half) for half in halves]
