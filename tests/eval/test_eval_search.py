"""Search against a sort of the whole matrix: the same samples in the same order, ties by id, over any pieces."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tercet.data_pipelines.sample import Sample
from tercet.errors import UserError
from tercet.eval.embedding.embed import EmbeddingTable
from tercet.eval.embedding.search import search
from tercet.eval.embedding.store import Request, Store, StoredPart

SAMPLES, PIECE = 50, 8


def coarse(rows: int, seed: int) -> Tensor:
    """Both ways along two axes, so that many are equal, and products exact."""
    axes = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    return axes[torch.randint(0, 4, (rows,), generator=torch.Generator().manual_seed(seed))]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Pictures for all samples, sounds for the first twenty; sample 13 could not be used."""
    made = Store.begin(tmp_path_factory.mktemp("store") / "s", Request("w", "d", "t", SAMPLES, PIECE))
    image, audio = (
        coarse(SAMPLES, seed=0),
        F.normalize(torch.randn(SAMPLES, 2, generator=torch.Generator().manual_seed(1)), dim=1),
    )
    for ids in made.missing():
        used = [id for id in ids if id != 13]
        heard = [id for id in used if id < 20]
        vectors = {"image": image[used], **({"audio": audio[heard]} if heard else {})}
        items = {name: torch.arange(len(rows)) for name, rows in vectors.items()}
        samples = tuple(Sample(f"k{id}", id, id, text=(f"caption {id}",)) for id in used)
        made.add(ids, StoredPart(EmbeddingTable(vectors, items, samples), ()))
    made.finish()
    return made


@settings(max_examples=25)
@given(st.integers(1, 60), st.integers(0, 5), st.sampled_from(["image", "audio"]))
def test_the_nearest_samples_equal_those_of_a_sorted_list(store: Store, k: int, seed: int, among: str) -> None:
    query = coarse(1, seed)[0]
    table = store.table()
    scores = [float(score) for score in table.vectors[among] @ query]
    ids = [table.samples[item].id for item in table.items[among].tolist()]
    expected = sorted(zip(scores, ids, strict=True), key=lambda pair: (-pair[0], pair[1]))[:k]
    found = search(store, query, k, among)
    assert [match.sample.id for match in found] == [id for _, id in expected]
    assert [match.score for match in found] == pytest.approx([score for score, _ in expected])


def test_searching_a_modality_that_the_data_lack_is_refused(store: Store) -> None:
    with pytest.raises(UserError, match="the data hold no text to search; known: audio, image"):
        search(store, torch.ones(2), 3, "text")
