"""Metrics of retrieval beside those of CLIP_benchmark, LAION-CLAP, torchmetrics and pytrec_eval,
which mteb uses.

The peers break ties by place, by name or not at all, where tercet counts a tie as wrong: none of these scores tie.
"""

from functools import partial

import numpy as np
import pytest
import pytrec_eval
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional import retrieval as peer

from tercet.data_pipelines.sample import Sample
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable
from tercet.eval.load_tasks import load_task
from tercet.eval.ranking.ranking import rank
from tercet.eval.retrieval.retrieval import RetrievalTask

ITEMS, CAPTIONS = 40, 5


def table(media: str = "image") -> EmbeddingTable:
    """Five captions of each item, as noisy views of it."""
    random = torch.Generator().manual_seed(0)
    items = {media: torch.arange(ITEMS), "text": torch.arange(ITEMS).repeat_interleave(CAPTIONS)}
    base = torch.randn(ITEMS, 16, generator=random)
    noise = {name: torch.randn(len(rows), 16, generator=random) for name, rows in items.items()}
    vectors = {name: F.normalize(base[rows] + 1.2 * noise[name], dim=1) for name, rows in items.items()}
    return EmbeddingTable(vectors, items, tuple(Sample(f"s{n}", n, n // 2) for n in range(ITEMS)))


def scored(task: RetrievalTask, embedded: EmbeddingTable) -> dict[str, float]:
    measures = task.measure(embedded, lambda texts: torch.zeros(len(texts), 16), EvalConfig())
    return {f"{one.subject} {name}": found.value for one in measures for name, found in one.statistics.items()}


def task(name: str, **changes: object) -> RetrievalTask:
    found = load_task(name)
    assert isinstance(found, RetrievalTask)
    return found.model_copy(update=changes)


def test_recall_is_that_of_clip_benchmark() -> None:
    """Its rule: the share of a query's right answers among the first k, from a matrix of all pairs, is above 0."""
    embedded = table()
    scores = embedded.vectors["text"] @ embedded.vectors["image"].T
    positive = torch.zeros_like(scores, dtype=torch.bool)
    positive[torch.arange(len(scores)), embedded.items["text"]] = True
    found = scored(task("retrieval", right="item"), embedded)
    for name, matrix, right in (("text→image", scores, positive), ("image→text", scores.T, positive.T)):
        for k in (1, 5, 10):
            hits = []
            for row, own in zip(matrix, right, strict=True):
                best = sorted(range(len(row)), key=lambda place: -float(row[place]))[:k]
                hits.append(sum(bool(own[place]) for place in best) / int(own.sum()) > 0)
            assert found[f"{name} R@{k}"] == pytest.approx(sum(hits) / len(hits), abs=1e-12)


def test_the_protocol_of_laion_for_sounds() -> None:
    """A clip is found at the best rank of its captions, and its AP@10 divides by five, also where it has four."""
    embedded = table("audio")
    kept = torch.arange(ITEMS * CAPTIONS) != 7  # of clip 1
    embedded.vectors["text"], embedded.items["text"] = embedded.vectors["text"][kept], embedded.items["text"][kept]
    scores = embedded.vectors["audio"] @ embedded.vectors["text"].T
    best, precision = [], []
    for clip, row in enumerate(scores):
        order = row.argsort(descending=True).tolist()
        places = sorted(order.index(text) for text in range(len(row)) if embedded.items["text"][text] == clip)
        best.append(places[0])
        precision.append(sum((nth + 1) / (place + 1) for nth, place in enumerate(places) if place < 10) / 5)
    found = scored(task("retrieval_laion_audio"), embedded)
    assert {name.split(" ")[0] for name in found} == {"text→audio", "audio→text"}
    assert found["audio→text mAP@10"] == pytest.approx(sum(precision) / ITEMS)
    assert found["audio→text mean rank"] == pytest.approx(sum(best) / ITEMS + 1)
    for k in (1, 5, 10):
        assert found[f"audio→text R@{k}"] == pytest.approx(sum(place < k for place in best) / ITEMS)
    own = [
        scores[:, text].argsort(descending=True).tolist().index(int(clip))
        for text, clip in enumerate(embedded.items["text"])
    ]
    assert found["text→audio R@5"] == pytest.approx(sum(place < 5 for place in own) / len(own))
    reached = sum(1 / (place + 1) for place in own if place < 10)
    assert found["text→audio mAP@10"] == pytest.approx(reached / len(own))


@pytest.mark.parametrize(("name", "media"), [("long_retrieval", "image"), ("speech_retrieval", "audio")])
def test_one_caption_of_each_item_is_ranked_as_by_long_clip_and_clasp(name: str, media: str) -> None:
    """Urban1k counts how often the nearest of all is the own one. HITS@1, MRR and meanR are means over the ranks."""
    whole = table(media)
    items = {media: torch.arange(ITEMS), "text": torch.arange(ITEMS)}
    vectors = {media: whole.vectors[media], "text": whole.vectors["text"][::CAPTIONS]}
    found = scored(task(name), EmbeddingTable(vectors, items, tuple(Sample(f"s{n}", n, n) for n in range(ITEMS))))
    scores = (vectors["text"] @ vectors[media].T).numpy()
    for direction, matrix in ((f"text→{media}", scores), (f"{media}→text", scores.T)):
        nearest = matrix.argmax(axis=1)
        assert found[f"{direction} R@1"] == pytest.approx((nearest == np.arange(ITEMS)).mean())
        rank = 1 + (matrix > matrix.diagonal()[:, None]).sum(axis=1)
        assert found[f"{direction} mean rank"] == pytest.approx(rank.mean())
        if name == "speech_retrieval":
            assert found[f"{direction} MRR"] == pytest.approx((1 / rank).mean())


def test_the_code_of_laion_does_not_sort_the_ranks_of_captions() -> None:
    """LAION-CLAP describes AP@10 over sorted ranks, as Mei et al. (2022) compute it. Its code takes the ranks in the
    order of the captions, which is never lower, and the same if the captions are in the order of their ranks."""
    embedded = table("audio")
    scores = embedded.vectors["audio"] @ embedded.vectors["text"].T
    places = scores.argsort(dim=1, descending=True).argsort(dim=1)
    own = torch.stack([places[clip, clip * CAPTIONS : (clip + 1) * CAPTIONS] for clip in range(ITEMS)])

    def precision(ranks: Tensor) -> float:
        return float(sum((nth + 1) / (place + 1) for nth, place in enumerate(ranks[ranks < 10].tolist())) / CAPTIONS)

    as_coded, as_described = (sum(map(precision, one)) / ITEMS for one in (own, own.sort(dim=1).values))
    assert scored(task("retrieval_laion_audio"), embedded)["audio→text mAP@10"] == pytest.approx(as_described)
    assert as_coded > as_described + 0.05


def some_right() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(3)
    own, groups = torch.arange(30) % 6, torch.randint(0, 6, (100,), generator=random)
    base = torch.randn(6, 8, generator=random)
    rows = (F.normalize(base[one] + torch.randn(len(one), 8, generator=random), dim=1) for one in (own, groups))
    return (*rows, own, groups)


def test_values_equal_those_of_torchmetrics() -> None:
    """It drops scores that are not above 0, so 1 is added; its AP@k divides by the right answers that were found, so
    only AP without a depth is the same."""
    queries, candidates, own, groups = some_right()
    found = rank(queries, candidates, own, groups, depth=None)
    known = {
        peer.retrieval_average_precision: found.average_precision(),
        peer.retrieval_reciprocal_rank: found.reciprocal_rank(),
        peer.retrieval_r_precision: found.r_precision(),
        partial(peer.retrieval_precision, top_k=5): found.precision(5),
        partial(peer.retrieval_hit_rate, top_k=3): found.rank <= 3,
        partial(peer.retrieval_normalized_dcg, top_k=10): found.ndcg(10),
    }
    for metric, values in known.items():
        rows = zip(1 + queries @ candidates.T, own, strict=True)
        expected = [float(metric(scores, groups == group)) for scores, group in rows]
        assert values.tolist() == pytest.approx(expected, abs=1e-6)
        assert len(set(expected)) > 1


def test_values_equal_those_of_pytrec_eval() -> None:
    """Its recall is the share of right answers that are found, so hit rates are compared; its AP@k divides by all right
    answers, of which there are ten and more."""
    queries, candidates, own, groups = some_right()
    found = rank(queries, candidates, own, groups, depth=None)
    scores = queries @ candidates.T
    results = {f"q{q}": {f"c{c}": float(score) for c, score in enumerate(row)} for q, row in enumerate(scores)}
    right = {
        f"q{q}": {f"c{c}": int(groups[c] == group) for c in range(len(groups))} for q, group in enumerate(own.tolist())
    }
    known = {
        "map": found.average_precision(),
        "map_cut_10": found.average_precision(10) * 10 / found.positives,
        "ndcg_cut_10": found.ndcg(10),
        "recip_rank": found.reciprocal_rank(),
        "P_5": found.precision(5),
        "Rprec": found.r_precision(),
        "success_5": (found.rank <= 5).double(),
    }
    scored = pytrec_eval.RelevanceEvaluator(
        right, {"map", "map_cut", "ndcg_cut", "recip_rank", "P", "Rprec", "success"}
    )
    by_query = scored.evaluate(results)
    assert int(found.positives.min()) >= 10
    for name, values in known.items():
        expected = [by_query[f"q{q}"][name] for q in range(len(own))]
        assert values.tolist() == pytest.approx(expected, abs=1e-6), name
