"""The baseline that sees neither pictures nor sounds: its probabilities, what it learns from, and where it is shown."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tercet.data_pipelines.sample import Sample
from tercet.eval.composition.blind import DISCOUNT, NAME, Judgement, NGrams, folds, right_beats_wrong
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable
from tercet.eval.evaluate import evaluate
from tercet.eval.tables.table import table_text
from tercet.eval.trust.self_test import self_test

CAPTIONS = ["a red dog", "a red cat", "the red dog sleeps", "a dog", "dog dog dog"]


def split(captions: Sequence[str]) -> list[list[str]]:
    return [caption.split() for caption in captions]


def naive(captions: Sequence[str], before: Sequence[str], word: str) -> float:
    """The same probability by searching the padded captions for every count."""
    padded = [["<s>", "<s>", *words, "</s>"] for words in split(captions)]
    grams = [row[at - len(before) : at + 1] for row in padded for at in range(2, len(row))]
    after = [gram[-1] for gram in grams if gram[:-1] == list(before)]
    shorter = naive(captions, before[1:], word) if before else 1 / (len(set(after)) + 1)
    if not after:
        return shorter
    return (max(after.count(word) - DISCOUNT, 0) + DISCOUNT * len(set(after)) * shorter) / len(after)


@pytest.mark.parametrize("before", [(), ("a",), ("a", "red"), ("<s>", "<s>"), ("red", "unseen"), ("unseen", "red")])
def test_probabilities_equal_a_naive_search_and_add_up_to_one(before: tuple[str, ...]) -> None:
    model = NGrams(split(CAPTIONS))
    words = sorted({word for caption in split(CAPTIONS) for word in caption} | {"</s>", "unseen"})
    found = [model.probability(word, before) for word in words]
    assert found == pytest.approx([naive(CAPTIONS, before, word) for word in words])
    assert sum(found) == pytest.approx(1)
    assert min(found) > 0


def test_a_caption_scores_by_its_mean_over_the_words_and_the_end() -> None:
    model = NGrams(split(CAPTIONS))
    steps = [(("<s>", "<s>"), "a"), (("<s>", "a"), "dog"), (("a", "dog"), "</s>")]
    expected = torch.tensor([naive(CAPTIONS, before, word) for before, word in steps]).log().mean()
    assert model.score(["a", "dog"]) == pytest.approx(float(expected), abs=1e-6)


def test_folds_keep_groups_together() -> None:
    assert folds([7, 7, 3, 9, 3, 1, 4, 5, 6]) == [0, 0, 1, 2, 1, 3, 4, 0, 1]
    assert folds([1, 2, 1]) == [0, 1, 0]
    assert folds([4, 4]) is None


def samples(right: Sequence[str], wrong: Sequence[str], groups: Sequence[int] | None = None) -> tuple[Sample, ...]:
    return tuple(
        Sample(str(n), n, groups[n] if groups else n, text=(one,), meta={"negatives": [{"kind": "k", "text": other}]})
        for n, (one, other) in enumerate(zip(right, wrong, strict=True))
    )


def beaten(right: Sequence[str], wrong: Sequence[str], groups: Sequence[int] | None = None) -> Tensor | None:
    judgements = [Judgement(item, (own,), (text,)) for item, (own, text) in enumerate(zip(right, wrong, strict=True))]
    return right_beats_wrong(judgements, samples(right, wrong, groups))


THINGS = [f"a {colour} {thing} near the house" for colour in ("red", "blue", "old") for thing in ("dog", "cat", "bus")]


def test_grammar_gives_shuffled_captions_away() -> None:
    found = beaten(THINGS, [" ".join(caption.split()[::-1]) for caption in THINGS])
    assert found is not None
    assert found.all()


def test_balanced_facts_cannot_be_guessed() -> None:
    """Each wrong caption is the right one of another item; an item's own is not among what was read."""
    found = beaten(THINGS, [*THINGS[1:], THINGS[0]])
    assert found is not None
    assert float(found.double().mean()) <= 0.5


def test_a_caption_is_judged_without_its_own_group() -> None:
    """The right captions of a group are its own idiom: only where another group has it too can it be known."""
    right, wrong = ["qux quux"] * 4, ["a dog"] * 4
    others = ["a dog sleeps"] * 6
    alone = beaten([*right, *others], [*wrong, *others], [0] * 4 + list(range(1, 7)))
    shared = beaten([*right, *others], [*wrong, *others], [0, 0, 1, 1, *range(2, 8)])
    assert alone is not None
    assert shared is not None
    assert (alone[:4].tolist(), shared[:4].tolist()) == ([False] * 4, [True] * 4)
    assert beaten(right, wrong, [0] * 4) is None


def test_the_baseline_stands_beside_each_accuracy_and_in_the_verdict() -> None:
    """A perfect model on captions that grammar gives away is above chance, but not above text alone."""
    wrong = [" ".join(caption.split()[::-1]) for caption in THINGS]
    vectors = F.normalize(torch.eye(len(THINGS)) + 0.1, dim=1)
    items = torch.arange(len(THINGS))
    table = EmbeddingTable({"image": vectors, "text": vectors}, {"image": items, "text": items}, samples(THINGS, wrong))
    embed = lambda texts: -torch.ones(len(texts), len(THINGS))  # noqa: E731
    (result,) = evaluate(table, embed, ["composition"], EvalConfig())
    assert (result.value, result.shortcuts) == (1.0, {NAME: 1.0})
    shown = table_text([result])
    assert "text" in shown
    assert "is above chance (50.0 %), but not above text alone (100.0 %)" in " ".join(shown.split())


def test_null_models_do_not_compute_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are evaluated hundreds of times."""
    monkeypatch.setattr(NGrams, "__init__", lambda *arguments: pytest.fail("computed"))
    items = torch.arange(len(THINGS))
    vectors = F.normalize(torch.randn(len(THINGS), 8, generator=torch.Generator().manual_seed(0)), dim=1)
    table = EmbeddingTable(
        {"image": vectors, "text": vectors}, {"image": items, "text": items}, samples(THINGS, THINGS[::-1])
    )
    assert all(check.holds for check in self_test(table, ["composition"]))
