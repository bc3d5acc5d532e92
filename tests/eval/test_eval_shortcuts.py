"""The shortcuts find what can be found linearly, and nothing more."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Normal

from tercet.data_pipelines.sample import Sample
from tercet.eval.embedding.embed import EmbeddingTable
from tercet.eval.trust.shortcuts import PENALTIES, Ridge, ridge_recall, spread
from tercet.eval.trust.simple_features import MELS, NGRAMS, WORDS, simple_features
from tercet.modality import FILES


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def table(rows: dict[str, Tensor]) -> EmbeddingTable:
    count = len(next(iter(rows.values())))
    return EmbeddingTable(
        rows, {m: torch.arange(count) for m in rows}, tuple(Sample(str(n), n, n) for n in range(count))
    )


def parted(rows: dict[str, Tensor], count: int) -> tuple[EmbeddingTable, EmbeddingTable]:
    """So many items to train on, and the others."""
    first, others = ({name: of[part] for name, of in rows.items()} for part in (slice(count), slice(count, None)))
    return table(first), table(others)


def test_a_linear_relation_between_features_is_found_at_any_scale() -> None:
    mixing, image = noise(8, 12, seed=0), noise(400, 8, seed=1)
    features = {"image": 1e3 * image + 5, "text": image @ mixing + 0.01 * noise(400, 12, seed=2)}
    train = table({name: rows[:300] for name, rows in features.items()})
    found = ridge_recall(train, table({name: rows[300:] for name, rows in features.items()}))
    assert found == {"image→text": 1.0, "text→image": 1.0}


def test_unrelated_features_stay_at_chance() -> None:
    features = {"image": noise(600, 8, seed=3), "audio": noise(600, 8, seed=4)}
    train = table({name: rows[:300] for name, rows in features.items()})
    found = ridge_recall(train, table({name: rows[300:] for name, rows in features.items()}), candidates=200)
    assert max(found.values()) <= 6 / 200


def test_training_items_that_lack_a_modality_are_left_out() -> None:
    image = noise(60, 4, seed=5)
    full = {"image": image, "text": 2 * image}
    gappy = EmbeddingTable(
        {"image": image[10:40], "text": 2 * image[:30]},
        {"image": torch.arange(10, 40), "text": torch.arange(30)},
        tuple(Sample(str(n), n, n) for n in range(40)),
    )
    assert ridge_recall(gappy, table({name: rows[40:] for name, rows in full.items()}))["image→text"] == 1.0


def test_directions_without_a_training_item_are_left_out() -> None:
    image = noise(60, 4, seed=6)
    evaluated = table({"image": image[40:], "audio": 3 * image[40:], "text": 2 * image[40:]})
    apart = EmbeddingTable(
        {"image": image[:20], "audio": image[:20], "text": 2 * image[:20]},
        {"image": torch.arange(20), "audio": torch.arange(20, 40), "text": torch.arange(20)},
        tuple(Sample(str(n), n, n) for n in range(40)),
    )
    assert ridge_recall(table({"text": image[:40]}), evaluated) == {}
    assert ridge_recall(apart, evaluated).keys() == {"image→text", "text→image"}


def test_features_that_are_constant_in_training_do_not_count() -> None:
    """A word that training never shows would otherwise be infinitely surprising, and decide everything."""
    features = {"image": noise(120, 4, seed=7)}
    features["text"] = torch.cat([features["image"], torch.zeros(120, 3)], dim=1)
    features["text"][100:, 4] = noise(20, seed=8)
    train, rest = (
        table({name: rows[part] for name, rows in features.items()}) for part in (slice(100), slice(100, 120))
    )
    assert ridge_recall(train, rest) == {"image→text": 1.0, "text→image": 1.0}


def test_both_directions_use_the_scores_of_the_easier_one() -> None:
    """Of two texts' numbers one is that of the picture, and hundreds are noise that no regression from text ignores."""
    image = noise(260, 1, seed=9)
    features = {"image": image, "text": torch.cat([image + 0.05 * noise(260, 1, seed=10), noise(260, 300, seed=11)], 1)}
    train, rest = (
        table({name: rows[part] for name, rows in features.items()}) for part in (slice(200), slice(200, 260))
    )
    found = ridge_recall(train, rest)
    assert min(found.values()) > 0.2


def test_errors_equal_leave_one_out_errors_and_scores_are_likelihoods() -> None:
    x, y = noise(24, 5, seed=12).double(), noise(24, 3, seed=13).double()
    y[:, 0] += 2 * x[:, 0]
    scaled_x, scaled_y = ((rows - rows.mean(dim=0)) / rows.std(dim=0, correction=0) for rows in (x, y))
    naive = {}
    for penalty in PENALTIES:
        left_out = []
        for item in range(24):
            others = torch.tensor([one for one in range(24) if one != item])
            ones = torch.cat([torch.ones(24, 1), scaled_x], dim=1).double()
            ridge = torch.diag(torch.tensor([0.0] + 5 * [penalty * 24], dtype=torch.float64))
            weights = torch.linalg.solve(ones[others].T @ ones[others] + ridge, ones[others].T @ scaled_y[others])
            left_out.append(scaled_y[item] - ones[item] @ weights)
        naive[penalty] = torch.stack(left_out).square().mean(dim=0).clamp(max=1)
    found = Ridge.fitted("image", x, y)
    best = min(naive, key=lambda penalty: float(naive[penalty].log().sum()))
    torch.testing.assert_close(found.error_K, naive[best])
    predicted = found.x(x) @ found.weights_PK
    scores, known = found.rows("image", x) @ found.rows("text", y).T, torch.zeros(24, 24, dtype=torch.float64)
    for query, candidate in itertools.product(range(24), repeat=2):
        likely = Normal(predicted[query], found.error_K.sqrt()).log_prob(scaled_y[candidate])
        known[query, candidate] = (likely - Normal(0, 1).log_prob(scaled_y[candidate])).sum()
    torch.testing.assert_close(scores - scores.mean(), known - known.mean())


@pytest.mark.long
def test_the_length_alone_matches_sounds_and_sentences() -> None:
    """Noise of random length, and meaningless sentences that take as long to say."""
    dice = np.random.default_rng(0)
    samples = []
    for id in range(500):
        letters = "".join(dice.choice(list("abcdefgh "), dice.integers(10, 120)))
        sound = dice.standard_normal(400 * len(letters)).astype(np.float32)
        samples.append(Sample(str(id), id, id, {"audio": sound}, (letters,)))
    train, rest = simple_features(samples[:400], 16000), simple_features(samples[400:], 16000)
    found = ridge_recall(train, rest)
    assert min(found.values()) > 0.1


@given(st.integers(1, 5000), st.integers(1, 3000))
def test_samples_to_fit_on_are_spread_over_the_source(count: int, most: int) -> None:
    ids = list(spread(count, most))
    assert ids == sorted(set(ids))
    assert min(count, most) * 0.5 <= len(ids) <= most
    assert 0 <= ids[0] <= ids[-1] < count
    if most >= 64:
        assert (ids[0], ids[-1]) == (0, count - 1)


def test_every_caption_has_simple_features() -> None:
    samples = [Sample(str(n), n, n, text=("a dog", "a cat", "a cow")[: n + 1]) for n in range(3)]
    assert simple_features(samples, 16000, captions=None).items["text"].tolist() == [0, 1, 1, 2, 2, 2]
    assert simple_features(samples, 16000, captions=2).items["text"].tolist() == [0, 1, 1, 2, 2]
    every, first = (simple_features(samples, 16000, captions=count).vectors["text"] for count in (None, 1))
    assert every[[0, 1, 3]].equal(first)


def test_simple_features_are_histograms_spectra_and_words() -> None:
    rate = 16000
    red, half = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)
    red[..., 0], half[:4, :, 0] = 255, 255
    time = torch.arange(2 * rate) / rate
    high, low = (torch.sin(2 * math.pi * hertz * time).numpy() for hertz in (3000, 300))
    high = high[:rate]
    samples = [
        Sample("b", 1, 1, {"image": half, "audio": high}, ("a cat a dog",)),
        Sample("a", 0, 0, {"image": red, "audio": low}, ("A dog",)),
    ]
    found = simple_features(samples, rate)
    assert [sample.key for sample in found.samples] == ["a", "b"]
    assert found.vectors["image"].square().sum(dim=1).tolist() == pytest.approx([1, 1])
    assert sorted(found.vectors["image"][1].tolist())[-2:] == pytest.approx([math.sqrt(0.5)] * 2)
    assert found.vectors["audio"].shape == (2, 2 * MELS + 1)
    assert found.vectors["audio"][:, -1].tolist() == pytest.approx([math.log(2), 0.0])
    low, high = found.vectors["audio"][:, :MELS].argmax(dim=1).tolist()
    assert low < high
    words, letters, length = found.vectors["text"].square().split([WORDS, NGRAMS, 1], dim=1)
    assert sorted(words[1].tolist())[-3:] == pytest.approx([1, 1, 2])
    assert float(words[0].sqrt() @ words[1].sqrt()) == pytest.approx(2**0.5 + 1)
    grams = Counter(text[at : at + size] for text in ("a cat a dog",) for size in (1, 2, 3) for at in range(12 - size))
    assert letters[1].sum() == pytest.approx(sum(grams.values()))
    assert letters[1].max() >= max(grams.values())
    assert length.sqrt()[:, 0].tolist() == pytest.approx([math.log(6), math.log(12)])


def test_simple_features_of_other_modalities_are_mean_spread_and_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mean, spread and mean step of each column; a single row stands still."""
    monkeypatch.setitem(FILES, "drift", ("drift",))
    course = np.array([[0, 5], [2, 5], [4, 5], [6, 5]], np.float32)
    pixels = np.zeros((4, 4, 3), np.uint8)
    media = [{"drift": course}, {"image": pixels}, {"drift": course[:1]}]
    found = simple_features([Sample(str(n), n, n, each) for n, each in enumerate(media)], 16000)
    assert found.items["drift"].tolist() == [0, 2]
    assert found.vectors["drift"][0].tolist() == pytest.approx([3, 5, 5**0.5, 0, 1.5, 0])
    assert found.vectors["drift"][1].tolist() == [0, 5, 0, 0, 0, 0]
