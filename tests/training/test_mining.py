"""Mined negatives equal those of loops over all pairs, on any number of ranks and after any interruption."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from pydantic import ValidationError

from tercet.data_pipelines.columns import Column
from tercet.data_pipelines.config import SplitConfig
from tercet.data_pipelines.sources.open import open_source
from tercet.distributed import World
from tercet.testing import on_ranks
from tercet.training.mining import inverted_lists
from tercet.training.mining.config import MiningConfig
from tercet.training.mining.equal import MarkReader, marks_of
from tercet.training.mining.pieces import Pieces
from tercet.training.mining.table import ROWS, Group
from tests.training.mining import SAMPLES, graph_of, mined, naive, photos, same, vectors_of, written

QUESTIONS: list[dict[str, Any]] = [
    {},
    {"query": "text", "num_negatives": 5, "range_max": 9},
    {"query": "image", "to": "text", "relative_margin": 0.25},
    {"query": "text", "to": "image", "absolute_margin": 0.125, "num_negatives": 4},
    {"query": "text", "to": "text", "relative_margin": 0.25, "range_max": 60},
    {"query": "image", "to": "text", "range_min": 6, "range_max": 12, "num_negatives": 6},
    {"query": "image", "max_score": 0.25, "min_score": 0.125, "num_negatives": 2, "range_max": 50},
    {"query": "text", "to": "image", "range_min": 2, "range_max": 40, "max_score": 0.375, "min_score": -0.25,
     "absolute_margin": 0.0625, "relative_margin": 0.125, "num_negatives": 8},
]  # fmt: skip


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def named(options: dict[str, Any]) -> str:
    return ",".join(f"{name}={value}" for name, value in options.items()) or "defaults"


@pytest.mark.parametrize("options", QUESTIONS, ids=named)
def test_negatives_equal_those_of_a_naive_search(
    options: dict[str, Any], shards: Path, cache: Path, tmp_path: Path
) -> None:
    found = mined(shards, tmp_path, cache, **options)
    query = options.get("query", "image")
    expected = naive(cache, MiningConfig(**options), query, options.get("to", query))
    graph = graph_of(tmp_path)
    assert graph.id_n.tolist() == sorted(expected.found)
    for id, others, scores in zip(graph.id_n.tolist(), graph.values["neighbors"], graph.values["scores"], strict=True):
        missing = len(others) - len(expected.found[id])
        assert others.tolist() == [other for other, _ in expected.found[id]] + [-1] * missing
        assert scores.tolist() == [score for _, score in expected.found[id]] + [-np.inf] * missing
    positives = dict(zip(graph.id_n.tolist(), graph.values["positive"].tolist(), strict=True))
    assert {id: score for id, score in positives.items() if not np.isnan(score)} == expected.positives
    assert {name: count for name, count in found.candidates.items() if count} == dict(+expected.counts)
    check_scores(found.scores, expected)
    assert found.samples == len(expected.found)
    assert found.short == sum(len(rows) < MiningConfig(**options).num_negatives for rows in expected.found.values())


def check_scores(spreads: dict[str, Any], expected: Any) -> None:
    negatives = [score for rows in expected.found.values() for _, score in rows]
    positives = list(expected.positives.values())
    gaps = [expected.positives[id] - score for id in expected.positives for _, score in expected.found[id]]
    for name, values in {"positive": positives, "negative": negatives, "difference": gaps}.items():
        spread = spreads[name]
        assert spread.count == len(values)
        assert spread.mean == pytest.approx(np.mean(values))
        assert spread.std == pytest.approx(np.std(values))
        assert spread.quantiles["median"] == pytest.approx(np.median(values))
        assert spread.quantiles["5 %"] == pytest.approx(np.quantile(values, 0.05))
        assert (spread.quantiles["min"], spread.quantiles["max"]) == (min(values), max(values))


def test_random_negatives_are_some_of_those_that_no_rule_drops(shards: Path, cache: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"to": "text", "range_max": 30, "max_score": 0.25, "num_negatives": 4}
    allowed = {}
    drawn = []
    for seed in (0, 1, 0):
        mined(shards, tmp_path / f"{len(drawn)}", cache, sampling_strategy="random", seed=seed, **options)
        allowed = naive(cache, MiningConfig(**options), "image", "text").kept
        graph = graph_of(tmp_path / f"{len(drawn)}")
        drawn.append(graph.values["neighbors"])
        for id, others in zip(graph.id_n.tolist(), graph.values["neighbors"].tolist(), strict=True):
            ranks = [[other for other, _ in allowed[id]].index(other) for other in others if other != -1]
            assert len(ranks) == min(4, len(allowed[id]))
            assert all(before < after for before, after in pairwise(ranks))
    assert (drawn[0] == drawn[2]).all()
    assert np.mean(drawn[0] != drawn[1]) > 0.1
    top = [[other for other, _ in allowed[id]][:4] for id in sorted(allowed)]
    assert sum(len({*ours} - {*theirs}) for ours, theirs in zip(drawn[0].tolist(), top, strict=True)) > len(top)


def test_equal_samples_are_never_negatives(shards: Path, cache: Path, tmp_path: Path) -> None:
    """Not even where nearly all others are taken."""
    rows = photos()
    for query, to in (("image", "image"), ("image", "text"), ("text", "image"), ("text", "text")):
        mined(shards, tmp_path / query / to, cache, query=query, to=to, num_negatives=60, range_max=60)
        graph = graph_of(tmp_path / query / to)
        pairs = [(id, other) for id, others in zip(graph.id_n.tolist(), graph.values["neighbors"].tolist(), strict=True)
                 for other in others if other != -1]  # fmt: skip
        assert len(pairs) > 1000
        assert not [pair for pair in pairs if pair[0] == pair[1] or same(rows[pair[0]], rows[pair[1]])]


def on_a_rank(world: World, shards: Path, folder: Path, options: dict[str, Any]) -> Any:
    return mined(shards, folder / "out", folder / "cache", world, **options)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


OPTIONS: dict[str, Any] = {
    "query": "text", "to": "image", "relative_margin": 0.25, "range_max": 40, "sampling_strategy": "random",
}  # fmt: skip


def test_two_ranks_write_the_same_files_as_one(shards: Path, tmp_path: Path) -> None:
    """Bit for bit, because the vectors of this test are exact. Equal scores, of which there are many, go by id."""
    alone = on_a_rank(World(), shards, tmp_path / "one", OPTIONS)
    assert on_ranks(on_a_rank, 2, shards, tmp_path / "two", OPTIONS) == [alone, alone]
    assert contents(tmp_path / "one" / "out") == contents(tmp_path / "two" / "out")
    searches = [contents(tmp_path / number / "cache" / "mining") for number in ("one", "two")]
    assert searches[0] == searches[1]
    assert len(searches[0]) == 2 * 5  # pieces of marks, and of the nearest candidates


@pytest.mark.parametrize("writes", [3, 8])
def test_a_killed_call_continues_and_its_result_is_that_of_a_whole_one(
    writes: int, shards: Path, cache: Path, tmp_path: Path
) -> None:
    whole = mined(shards, tmp_path / "whole", cache, **OPTIONS)
    write, begun = Pieces.write, []

    def stopping(pieces: Pieces, piece: int, arrays: Any) -> None:
        if len(begun) == writes:
            raise KeyboardInterrupt
        begun.append(piece)
        write(pieces, piece, arrays)

    with patch.object(Pieces, "write", stopping), pytest.raises(KeyboardInterrupt):
        on_a_rank(World(), shards, tmp_path / "killed", OPTIONS)
    again = []
    with patch.object(Pieces, "write", lambda *written: (again.append(written[1]), write(*written))):
        assert on_a_rank(World(), shards, tmp_path / "killed", OPTIONS) == whole
    assert len(again) == 10 - writes
    assert contents(tmp_path / "killed" / "out") == contents(tmp_path / "whole")


def test_other_rules_need_no_new_search(shards: Path, cache: Path, tmp_path: Path) -> None:
    mined(shards, tmp_path / "one", cache, range_max=30)
    with patch.object(Pieces, "write", side_effect=AssertionError("searched again")):
        mined(shards, tmp_path / "two", cache, range_max=30, relative_margin=0.3, num_negatives=9)


@pytest.mark.parametrize(("query", "to"), [("image", "text"), ("text", "image"), ("text", "text")])
def test_faiss_without_lists_finds_what_the_exact_search_finds(
    query: str, to: str, shards: Path, cache: Path, tmp_path: Path
) -> None:
    """Up to the choice among equal scores, of which faiss returns any."""
    pytest.importorskip("faiss")
    options: dict[str, Any] = {"query": query, "to": to, "range_max": 12, "num_negatives": 12}
    exact = mined(shards, tmp_path / "exact", cache, **options)
    found = mined(shards, tmp_path / "faiss", cache, use_faiss=True, **options)
    assert found.scores == exact.scores
    assert found.candidates["compared"] == exact.candidates["compared"]
    graphs = [graph_of(tmp_path / name) for name in ("exact", "faiss")]
    assert graphs[0].values["scores"].tolist() == graphs[1].values["scores"].tolist()
    check_pairs(graphs[1], cache, query, to)


def test_faiss_with_lists_finds_most_and_nothing_wrong(shards: Path, tmp_path: Path) -> None:
    """Also on two ranks, of which the first builds the index."""
    pytest.importorskip("faiss")
    options: dict[str, Any] = {"query": "image", "to": "text", "range_max": 12, "num_negatives": 12}
    exact = on_a_rank(World(), shards, tmp_path, options)
    whole = graph_of(tmp_path / "out").values["neighbors"]
    found = on_lists(World(), shards, tmp_path, options)
    graph = graph_of(tmp_path / "out")
    check_pairs(graph, tmp_path / "cache", "image", "text")
    same_share = np.mean(
        [
            len({*ours} & {*theirs}) / 12
            for ours, theirs in zip(graph.values["neighbors"].tolist(), whole.tolist(), strict=True)
        ]
    )
    assert 0.5 < same_share < 1
    assert found.candidates["compared"] == exact.candidates["compared"]
    assert on_ranks(on_lists, 2, shards, tmp_path / "two", options) == [found, found]


def on_lists(world: World, shards: Path, folder: Path, options: dict[str, Any]) -> Any:
    """With several lists of a dozen rows, of which two are looked through."""
    with patch.multiple(inverted_lists, FLAT=0, PER_LIST=12, VISITED=4):
        return on_a_rank(world, shards, folder, {**options, "use_faiss": True})


def check_pairs(graph: Column, cache: Path, query: str, to: str) -> None:
    """No pair of equal samples, none twice, and the right score for each."""
    rows, held = photos(), vectors_of(cache, query, to)
    for id, others, scores in zip(graph.id_n.tolist(), graph.values["neighbors"], graph.values["scores"], strict=True):
        there = [other for other in others.tolist() if other != -1]
        assert len(set(there)) == len(there)
        assert not [other for other in there if other == id or same(rows[id], rows[other])]
        best = [max(float(a @ b) for a in held[query][id] for b in held[to][other]) for other in there]
        assert scores.tolist()[: len(there)] == best


def test_what_a_sidecar_says_counts(shards: Path, tmp_path: Path) -> None:
    """Samples 3 and 4 share an album and a caption in the sidecar only."""
    lines = [{"key": str(number), "album": "holidays", "text": f"Beach {number // 5}"} for number in (3, 4)]
    (tmp_path / "more.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    split = SplitConfig(source=str(shards), group="json.album", sidecar=str(tmp_path / "more.jsonl"))
    marks = MarkReader(open_source(str(shards)), split, workers=0)(range(SAMPLES))
    for kind in ("group", "text"):
        pairs = marks_of(marks, kind).shared(marks_of(marks, kind))
        assert (3, 4) in zip(*pairs, strict=True)


GROUP = Group("boat.png", "a boat", ("a car", "a cat"), (0.5, 0.25, 0.125))
SHOWN: dict[tuple[str, bool], list[dict[str, Any]]] = {
    ("triplet", False): [
        {"anchor": "boat.png", "positive": "a boat", "negative": "a car"},
        {"anchor": "boat.png", "positive": "a boat", "negative": "a cat"},
    ],
    ("triplet", True): [
        {"anchor": "boat.png", "positive": "a boat", "negative": "a car", "scores": [0.5, 0.25]},
        {"anchor": "boat.png", "positive": "a boat", "negative": "a cat", "scores": [0.5, 0.125]},
    ],
    ("n-tuple", True): [
        {"anchor": "boat.png", "positive": "a boat", "negative_1": "a car", "negative_2": "a cat",
         "scores": [0.5, 0.25, 0.125]},
    ],
    ("labeled-pair", False): [
        {"anchor": "boat.png", "document": "a boat", "label": 1},
        {"anchor": "boat.png", "document": "a car", "label": 0},
        {"anchor": "boat.png", "document": "a cat", "label": 0},
    ],
    ("labeled-pair", True): [
        {"anchor": "boat.png", "document": "a boat", "score": 0.5},
        {"anchor": "boat.png", "document": "a car", "score": 0.25},
        {"anchor": "boat.png", "document": "a cat", "score": 0.125},
    ],
    ("labeled-list", False): [
        {"anchor": "boat.png", "documents": ["a boat", "a car", "a cat"], "labels": [1, 0, 0]},
    ],
    ("labeled-list", True): [
        {"anchor": "boat.png", "documents": ["a boat", "a car", "a cat"], "scores": [0.5, 0.25, 0.125]},
    ],
}  # fmt: skip


@pytest.mark.parametrize(("format", "scored"), SHOWN)
def test_the_rows_of_a_format(format: str, scored: bool) -> None:
    assert list(ROWS[format](GROUP, 2, scored)) == SHOWN[format, scored]


def test_a_sample_with_too_few_negatives_has_no_tuple() -> None:
    assert not list(ROWS["n-tuple"](GROUP, 3, False))
    alone = Group("boat.png", "a boat", (), (0.5,))
    assert [len(list(ROWS[format](alone, 2, False))) for format in ROWS] == [0, 0, 1, 0]


@pytest.mark.parametrize(("query", "to"), [("image", "text"), ("text", "image"), ("image", "image"), ("text", "text")])
def test_a_table_holds_the_captions_and_paths_of_the_graph(
    query: str, to: str, shards: Path, cache: Path, tmp_path: Path
) -> None:
    mined(shards, tmp_path, cache, query=query, to=to, output_format="labeled-list", output_scores=True)
    rows, graph = photos(), graph_of(tmp_path)

    def shown(id: int, modality: str) -> str | None:
        row = rows[id]
        if modality == "text":
            return row.captions[0]
        return None if row.picture is None else f"{shards / f'{id // 25 * 25:04d}.tar'}#{id}"

    document = to if query != to else {"image": "text", "text": "image"}[to]
    expected = []
    for id, others, scores in zip(graph.id_n.tolist(), graph.values["neighbors"], graph.values["scores"], strict=True):
        names = [(shown(other, document), score) for other, score in zip(others.tolist(), scores, strict=True)]
        held = [(name, score) for name, score in names if name]
        if shown(id, document) and held:
            expected.append(
                (shown(id, query), [shown(id, document), *(name for name, _ in held)], [one for _, one in held])
            )
    found = [json.loads(line) for line in (tmp_path / "negatives.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["anchor"], row["documents"], row["scores"][1:]) for row in found] == expected
    assert len(expected) > 40


def test_mistakes_are_named() -> None:
    with pytest.raises(ValidationError, match="`range_max` leaves 2 candidates after range_min, fewer than num_neg"):
        MiningConfig(range_min=4, range_max=6)
    with pytest.raises(ValidationError, match=r"`min_score` is 0\.5, but max_score is 0\.4; give a smaller one"):
        MiningConfig(min_score=0.5, max_score=0.4)
    with pytest.raises(ValidationError, match="`output_scores` needs a table; give output_format as well"):
        MiningConfig(output_scores=True)
