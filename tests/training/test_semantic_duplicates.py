"""SemDeDup equals loops over the samples of each cluster, and finds the planted copies."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from tercet.data_pipelines.curate.score_group import ScoreGroup
from tercet.data_pipelines.curate.score_table import ScoreTable
from tercet.data_pipelines.curate.score_task import ScoreTask
from tercet.errors import UserError
from tercet.eval.embedding.store import Store
from tercet.testing import on_ranks
from tercet.training.prototypes import semantic_duplicates as module
from tercet.training.prototypes.semantic_duplicates import SemDeDup, nearest_before, score_semantic_duplicates
from tests.data_pipelines.curated import written
from tests.eval import scored as known_vectors
from tests.eval.scored import DIFFERENT, on_rank, rows, scored
from tests.eval.test_score import vectors_of


def deduplicated(task: ScoreTask, store: Store, **options: object) -> ScoreGroup:
    module.HELD = 20
    return score_semantic_duplicates(task, store, SemDeDup(**{"clusters": 4, **options}))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("shards"))


@pytest.mark.parametrize("among", ["image", "text"])
def test_each_sample_is_compared_with_those_farther_from_the_centroid(
    among: str, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TILE", 4)
    found = {row["id"]: row for row in rows(scored(partial(deduplicated, among=among), shards, tmp_path))}
    known = {id: row.double().numpy() for id, row in vectors_of(Store(tmp_path / "store"))[among].items()}
    assert found.keys() == known.keys()
    assert {row["cluster"] for row in found.values()} == set(range(4))
    for cluster in range(4):
        members = [id for id, row in found.items() if row["cluster"] == cluster]
        centroid = np.mean([known[id] for id in members], axis=0)
        closeness = {id: round(float(known[id] @ centroid), 6) for id in members}
        order = sorted(members, key=lambda id: (closeness[id], id))
        for place, id in enumerate(order):
            cosines = {other: float(known[id] @ known[other]) for other in order[:place]}
            nearest = max(cosines.values(), default=None)
            assert found[id]["nearest"] == (nearest and pytest.approx(nearest, abs=1e-5))
            assert found[id]["first"] == (nearest is None or nearest <= 0.95)
            if nearest is not None:
                assert cosines[found[id]["nearest_id"]] == pytest.approx(nearest, abs=1e-5)


def test_planted_copies_are_found_for_any_eps(shards: Path, tmp_path: Path) -> None:
    found = {row["id"]: row for row in rows(scored(partial(deduplicated, among="text", eps=1e-4), shards, tmp_path))}
    copies = [id for id in found if id >= DIFFERENT and id - DIFFERENT in found]
    assert copies
    dropped = {id for id, row in found.items() if not row["first"]}
    assert len(dropped) == len(copies)
    for id in copies:
        assert len({id, id - DIFFERENT} & dropped) == 1
    assert dropped == {id for id, row in found.items() if row["nearest"] is not None and row["nearest"] > 1 - 1e-4}


def test_two_ranks_find_the_same_duplicates(shards: Path, tmp_path: Path) -> None:
    score = partial(deduplicated, among="text")
    alone = rows(scored(score, shards, tmp_path / "one"))
    on_ranks(on_rank, 2, score, shards, tmp_path / "two")
    found = rows(ScoreTable(tmp_path / "two" / "scores").group("mine"))
    assert [(row["id"], row["cluster"], row["first"]) for row in found] == [
        (row["id"], row["cluster"], row["first"]) for row in alone
    ]


def test_tiles_give_what_the_whole_matrix_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    rows_nd = normalize(torch.randn(23, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    cosine_nn = (rows_nd @ rows_nd.T).tril(-1) + torch.full((23, 23), module.ABSENT).triu()
    for tile in (3, 8, 100):
        monkeypatch.setattr(module, "TILE", tile)
        nearest_n, at_n = nearest_before(rows_nd)
        torch.testing.assert_close(nearest_n, cosine_nn.max(dim=1).values)
        assert at_n[1:].tolist() == cosine_nn.argmax(dim=1)[1:].tolist()


def test_equal_samples_leave_clusters_empty(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_vectors, "vector", lambda *_: torch.eye(known_vectors.DIM)[0])
    found = rows(scored(partial(deduplicated, among="text"), shards, tmp_path))
    assert len({row["cluster"] for row in found}) == 1
    assert [row["nearest"] for row in found] == [None, *[1.0] * (len(found) - 1)]
    assert [row["first"] for row in found] == [True, *[False] * (len(found) - 1)]


def test_other_options_and_modalities_are_refused(shards: Path, tmp_path: Path) -> None:
    scored(partial(deduplicated, among="text"), shards, tmp_path)
    with pytest.raises(UserError, match=r"mine holds other values \(eps changed\)"):
        scored(partial(deduplicated, among="text", eps=0.2), shards, tmp_path)
    with pytest.raises(UserError, match="the data hold no video"):
        scored(partial(deduplicated, among="video"), shards, tmp_path, group="other")
