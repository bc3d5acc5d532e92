"""Reduced sets rank models as the whole sets do, and tasks that others predict are found."""

from pathlib import Path

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn.functional import normalize

from tercet.data_pipelines.sample import Sample
from tercet.errors import UserError
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable, EvalError
from tercet.eval.redundant import predictability, redundant_tasks
from tercet.eval.retrieval.reduced import ReducedRetrievalTask, ReducedSet, reduced_set
from tercet.eval.retrieval.retrieval import RetrievalTask

DIM, ITEMS, QUERIES = 24, 1600, 60
NOISE = (0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.4, 1.6)  # of graded models


def embed_text(texts: list[str]) -> Tensor:
    return torch.zeros(len(texts), DIM)


def model(noise: float, seed: int, items: int = ITEMS, group: int = 1) -> EmbeddingTable:
    """A model with this much noise around points that all models share, which lie in clusters."""

    def drawn(key: int, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(key))

    centre = 1.5 * drawn(0, 40, DIM)[torch.arange(items) % 40] + drawn(1, items, DIM)
    vectors = {
        name: normalize(centre + noise * drawn(10 * seed + place, items, DIM), dim=1)
        for place, name in enumerate(("image", "text"), start=2)
    }
    samples = tuple(Sample(f"s{n}", n, n // group) for n in range(items))
    return EmbeddingTable(vectors, dict.fromkeys(vectors, torch.arange(items)), samples)


def task(file: Path) -> ReducedRetrievalTask:
    return ReducedRetrievalTask(kind="reduced_retrieval", name="reduced", title="Reduced", file=file)


def recall(table: EmbeddingTable, one: RetrievalTask | ReducedRetrievalTask) -> float:
    found = one.measure(table, embed_text, EvalConfig())
    return sum(measure.statistics["R@1"].value for measure in found) / len(found)


def test_the_reduced_set_ranks_models_as_the_whole_set_and_is_as_hard(tmp_path: Path) -> None:
    models = [model(noise, seed) for seed, noise in enumerate(NOISE)]
    whole = [recall(one, RetrievalTask(kind="retrieval", name="all", title="All")) for one in models]
    hard = reduced_set([model(1.1, 50), model(1.1, 60)], QUERIES, 3)
    hard.write(tmp_path / "hard.json")
    assert ReducedSet.read(tmp_path / "hard.json") == hard
    assert set(hard.queries) <= set(hard.candidates)
    assert len(hard.queries) == QUERIES
    assert len(hard.candidates) < ITEMS / 3
    names = [sample.key for sample in models[0].samples if sample.key not in hard.queries]
    others = [names[place] for place in torch.randperm(len(names), generator=torch.Generator().manual_seed(0)).tolist()]
    ReducedSet(hard.queries, (*hard.queries, *others[: len(hard.candidates) - QUERIES])).write(tmp_path / "random.json")
    reduced = [recall(one, task(tmp_path / "hard.json")) for one in models]
    random = [recall(one, task(tmp_path / "random.json")) for one in models]
    assert spearmanr(reduced, whole).statistic > 0.95
    assert abs(sum(reduced) - sum(whole)) < 0.5 * (sum(random) - sum(whole))


def test_candidates_are_the_groups_of_the_queries_and_the_hardest_of_every_reference() -> None:
    one, other = model(1.0, 1, items=40, group=2), model(1.0, 2, items=40, group=2)
    found = reduced_set([one, other], 3, 2)
    place = {sample.key: n for n, sample in enumerate(one.samples)}
    expected = {n for key in found.queries for n in (place[key] // 2 * 2, place[key] // 2 * 2 + 1)}
    for table in (one, other):
        for query, key in (("image", "text"), ("text", "image")):
            for name in found.queries:
                own = place[name]
                scores = table.vectors[key] @ table.vectors[query][own]
                wrong = [n for n in range(40) if n // 2 != own // 2]
                expected |= set(sorted(wrong, key=lambda n: -float(scores[n]))[:2])
    assert {place[name] for name in found.candidates} == expected


def test_results_on_a_set_of_everything_equal_those_of_retrieval(tmp_path: Path) -> None:
    table = model(1.0, 3, items=50, group=2)
    reduced_set([table], 50, 50).write(tmp_path / "all.json")
    whole = RetrievalTask(kind="retrieval", name="all", title="All").measure(table, embed_text, EvalConfig())
    found = task(tmp_path / "all.json").measure(table, embed_text, EvalConfig())
    for one, other in zip(whole, found, strict=True):
        assert one.subject == other.subject
        assert one.chance == pytest.approx(other.chance)
        for metric, statistic in one.statistics.items():
            assert statistic.value == pytest.approx(other.statistics[metric].value)


def test_other_data_and_broken_files_are_named(tmp_path: Path) -> None:
    table = model(1.0, 3, items=20)
    reduced_set([table], 5, 2).write(tmp_path / "set.json")
    fewer = EmbeddingTable(table.vectors, table.items, tuple(Sample(f"x{n}", n, n) for n in range(20)))
    with pytest.raises(EvalError, match="is not in the data, nor are"):
        recall(fewer, task(tmp_path / "set.json"))
    (tmp_path / "set.json").write_text("[]")
    with pytest.raises(UserError, match="is not a reduced set; write one with `tercet data reduce`"):
        recall(table, task(tmp_path / "set.json"))
    with pytest.raises(EvalError, match="only one of the models can use"):
        reduced_set([table, model(1.0, 3, items=21)], 5, 2)
    alike = EmbeddingTable(table.vectors, table.items, tuple(Sample("same", n, n) for n in range(20)))
    with pytest.raises(EvalError, match="several samples of the data have the same key"):
        reduced_set([alike], 5, 2)


def test_tasks_that_the_others_predict_are_redundant() -> None:
    """Twelve models with two abilities: two tasks measure the first one, two the second, one neither."""
    random = torch.Generator().manual_seed(0)
    ability, noise = (torch.randn(12, width, generator=random) for width in (2, 5))
    scores = torch.stack([ability[:, 0], 2 * ability[:, 0], ability[:, 1], ability[:, 1] + 1, noise[:, 4]], dim=1)
    scores = scores + 0.05 * noise
    assert predictability(scores, 0) > 0.9
    removed = redundant_tasks(scores, ["a", "a again", "b", "b again", "alone"])
    assert {name[0] for name, _ in removed} == {"a", "b"}
    assert len(removed) == 2
    assert all(correlation > 0.8 for _, correlation in removed)
    assert redundant_tasks(torch.randn(12, 3, generator=random), ["x", "y", "z"], above=0.9) == []
    with pytest.raises(UserError, match="4 models cannot say which tasks are redundant"):
        redundant_tasks(torch.zeros(4, 2), ["x", "y"])
