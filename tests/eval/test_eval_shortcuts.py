"""The shortcuts find what can be found linearly, and nothing more."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tercet.data_pipelines.sample import Sample
from tercet.eval.embed import EmbeddingTable
from tercet.eval.shortcuts import ridge_recall, simple_features
from tercet.modality import FILES


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def table(rows: dict[str, Tensor]) -> EmbeddingTable:
    count = len(next(iter(rows.values())))
    return EmbeddingTable(
        rows, {m: torch.arange(count) for m in rows}, tuple(Sample(str(n), n, n) for n in range(count))
    )


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


def test_directions_that_no_training_item_shows_are_left_out() -> None:
    image = noise(60, 4, seed=6)
    examined = table({"image": image[40:], "audio": 3 * image[40:], "text": 2 * image[40:]})
    apart = EmbeddingTable(
        {"image": image[:20], "audio": image[:20], "text": 2 * image[:20]},
        {"image": torch.arange(20), "audio": torch.arange(20, 40), "text": torch.arange(20)},
        tuple(Sample(str(n), n, n) for n in range(40)),
    )
    assert ridge_recall(table({"text": image[:40]}), examined) == {}
    assert ridge_recall(apart, examined).keys() == {"image→text", "text→image"}


def test_simple_features_are_histograms_spectra_and_words() -> None:
    rate, seconds = 16000, 1
    red, half = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)
    red[..., 0], half[:4, :, 0] = 255, 255
    time = torch.arange(rate * seconds) / rate
    high, low = (torch.sin(2 * math.pi * hertz * time).numpy() for hertz in (3000, 300))
    samples = [
        Sample("b", 1, 1, {"image": half, "audio": high}, ("a cat a dog",)),
        Sample("a", 0, 0, {"image": red, "audio": low}, ("A dog",)),
    ]
    found = simple_features(samples, rate)
    assert [sample.key for sample in found.samples] == ["a", "b"]
    assert found.vectors["image"].square().sum(dim=1).tolist() == pytest.approx([1, 1])
    assert sorted(found.vectors["image"][1].tolist())[-2:] == pytest.approx([math.sqrt(0.5)] * 2)
    low, high = found.vectors["audio"].argmax(dim=1).tolist()
    assert low < high
    assert sorted(found.vectors["text"][1].tolist())[-3:] == [1, 1, 2]
    assert float(found.vectors["text"][0] @ found.vectors["text"][1]) == 1 * 2 + 1 * 1


def test_other_numbers_are_told_by_their_course(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mean, spread and mean step of each column; a single row stands still."""
    monkeypatch.setitem(FILES, "drift", ("drift",))
    course = np.array([[0, 5], [2, 5], [4, 5], [6, 5]], np.float32)
    pixels = np.zeros((4, 4, 3), np.uint8)
    media = [{"drift": course}, {"image": pixels}, {"drift": course[:1]}]
    found = simple_features([Sample(str(n), n, n, each) for n, each in enumerate(media)], 16000)
    assert found.items["drift"].tolist() == [0, 2]
    assert found.vectors["drift"][0].tolist() == pytest.approx([3, 5, 5**0.5, 0, 1.5, 0])
    assert found.vectors["drift"][1].tolist() == [0, 5, 0, 0, 0, 0]
