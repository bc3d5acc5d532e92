"""The numbers of `tercet eval` beside those of CLIP_benchmark, MTEB, scikit-learn and torchmetrics.

All evaluate the same pictures, captions and classes with the same small random model. CLIP_benchmark and MTEB embed
them through `tercet.clip_benchmark_model` and `tercet.mteb_model`; the others get the vectors. A row is the largest
difference of any metric that both sides have.
"""

from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from tercet.api.clip_benchmark import clip_benchmark_model
from tercet.benchmarks.eval.colours import COLOURS, RECALL_AT, TEMPLATES, Colours
from tercet.benchmarks.table import BenchRow
from tercet.errors import UserError

COUNT, BATCH = 120, 32
BALANCED = "class from image mean_per_class_recall"
Scores = dict[str, float]
Peer = Callable[[Colours], tuple[Mapping[str, str], Scores]]  # our results by the peer's names of them; its scores


def rows(options: Namespace) -> list[BenchRow]:
    with TemporaryDirectory() as folder:
        data = Colours(Path(folder), COUNT)
        return [row_of(name, peer, data) for name, peer in PEERS.items()]


def row_of(name: str, peer: Peer, data: Colours) -> BenchRow:
    try:
        names, theirs = peer(data)
    except ImportError as error:
        raise UserError(f"this benchmark compares with {name}: {error}; install it, or name other parts") from None
    ours = data.ours(dict(names))
    apart = max(abs(ours[key] - theirs[key]) for key in names)
    beyond = {"scores": {"ours": ours, name: {key: theirs[key] for key in names}}}
    return BenchRow(f"parity with {name}", apart, peer_name=name, sizes={"pictures": data.count}, beyond=beyond)


def clip_benchmark(data: Colours) -> tuple[Mapping[str, str], Scores]:
    """Its functions on our loader. Top-1 and top-5 come from its logits: its `accuracy` fails with today's numpy."""
    from clip_benchmark.metrics import zeroshot_classification, zeroshot_retrieval

    model, transform, tokens = clip_benchmark_model(data.model)
    pixels = torch.stack([transform(picture) for picture in data.pictures])
    at = range(0, data.count, BATCH)
    captioned = [(pixels[start : start + BATCH], data.captions[start : start + BATCH]) for start in at]
    labelled = [(pixels[start : start + BATCH], torch.tensor(data.labels[start : start + BATCH])) for start in at]
    scores = zeroshot_retrieval.evaluate(model, captioned, tokens, "cpu", False, list(RECALL_AT))
    templates = [template.format("{c}") for template in TEMPLATES]
    classes = zeroshot_classification.zero_shot_classifier(model, tokens, list(COLOURS), templates, "cpu", False)
    logits, label = zeroshot_classification.run_classification(model, classes, labelled, "cpu", False)
    for k in (1, 5):
        scores[f"acc{k}"] = float((logits.topk(k).indices == label[:, None]).any(dim=1).double().mean())
    names = {f"image_retrieval_recall@{k}": f"text→image R@{k}" for k in RECALL_AT}
    names |= {f"text_retrieval_recall@{k}": f"image→text R@{k}" for k in RECALL_AT}
    return {**names, "acc1": "class from image acc1", "acc5": "class from image acc5"}, scores


def scikit_learn(data: Colours) -> tuple[Mapping[str, str], Scores]:
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, top_k_accuracy_score

    image, _, classes = data.vectors
    logits = (image @ classes.T).numpy()
    best = logits.argmax(axis=1)
    return {
        "accuracy": "class from image acc1",
        "top 5": "class from image acc5",
        "balanced accuracy": BALANCED,
    }, {
        "accuracy": float(accuracy_score(data.labels, best)),
        "top 5": float(top_k_accuracy_score(data.labels, logits, k=5)),
        "balanced accuracy": float(balanced_accuracy_score(data.labels, best)),
    }


def torchmetrics(data: Colours) -> tuple[Mapping[str, str], Scores]:
    """It drops scores that are not above 0, so 1 is added to each cosine."""
    from torchmetrics.functional import retrieval

    image, text, _ = data.vectors
    own = torch.arange(data.count).repeat_interleave(2)
    found: dict[str, list[float]] = {}
    sides = {
        "text→image": zip(1 + text @ image.T, own, [torch.arange(data.count)] * len(own), strict=True),
        "image→text": zip(1 + image @ text.T, torch.arange(data.count), [own] * data.count, strict=True),
    }
    for side, queries in sides.items():
        for scores, item, candidates in queries:
            right = candidates == item
            for k in RECALL_AT:
                hit = retrieval.retrieval_hit_rate(scores, right, top_k=k)
                found.setdefault(f"{side} R@{k}", []).append(float(hit))
            for name, metric in (
                ("MRR", retrieval.retrieval_reciprocal_rank),
                ("mAP", retrieval.retrieval_average_precision),
                ("R-precision", retrieval.retrieval_r_precision),
            ):
                found.setdefault(f"{side} {name}", []).append(float(metric(scores, right)))
            gain = retrieval.retrieval_normalized_dcg(scores, right, top_k=10)
            found.setdefault(f"{side} nDCG@10", []).append(float(gain))
    return {name: name for name in found}, {name: float(np.mean(values)) for name, values in found.items()}


def mteb(data: Colours) -> tuple[Mapping[str, str], Scores]:
    """Its evaluators on our encoder. MTEB rounds its scores of retrieval to five digits."""
    from tercet.benchmarks.eval.mteb_colours import scores_of

    scores = scores_of(data)
    names = {f"hit_rate_at_{k}": f"text→image R@{k}" for k in RECALL_AT}
    return {**names, "ndcg_at_10": "text→image nDCG@10"}, scores


PEERS: dict[str, Peer] = {
    "CLIP_benchmark": clip_benchmark,
    "MTEB": mteb,
    "scikit-learn": scikit_learn,
    "torchmetrics": torchmetrics,
}
