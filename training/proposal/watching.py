"""The evaluation settings of a proposed run: it is evaluated during training, stops early with its best weights, and is
compared with ridge regression on simple features."""

from collections.abc import Iterator

from tercet.training.proposal.choice import Choice

EVERY = 0.1  # of the run
PATIENCE = 4  # evaluations; few held-out samples give noisy scores
SHORTCUTS = 2_000  # samples are enough for a regression between simple features


def watching(pairs: int) -> Iterator[Choice]:
    """`pairs`: those that the run trains on."""
    often = f"evaluates the held-out samples {round(1 / EVERY)} times: a training loss alone does not show overfitting"
    yield Choice("eval.every", EVERY, often)
    samples = min(SHORTCUTS, pairs)
    ridge = "the report also says what ridge regression reaches on simple features"
    yield Choice("eval.shortcuts", samples, f"{ridge}, fitted on {samples:,} samples: a model below that has failed")
    stopping = {"task": "retrieval", "metric": "mAP@10", "patience": PATIENCE}
    best = f"keeps the best checkpoint, and ends the run when {PATIENCE} evaluations in a row are no better"
    yield Choice("early_stopping", stopping, f"{best}; mAP@10 is steadier than R@1 on few samples")
