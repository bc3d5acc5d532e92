"""Draws of augmentation against closed forms, and their frequencies over many keys."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tercet.configs.base import build
from tercet.data_pipelines.transforms.audio import AudioAugmenter, mixed
from tercet.data_pipelines.transforms.config import AudioAugment
from tercet.errors import UserError

LOUD = AudioAugment(gain=(-6, 6), noise=(10, 40), mix=0.5, frequency_masks=2, time_masks=3)


def wave(seed: int, frames: int = 4000) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, frames).astype(np.float32)


def decibels(ratio: float) -> float:
    return 10 * math.log10(ratio)


def test_without_options_sounds_do_not_change() -> None:
    augment, sound = AudioAugmenter(AudioAugment()), wave(0)
    np.testing.assert_array_equal(augment(sound, 5), sound)
    assert augment.partner(5, 0, 100) is None
    assert augment.masks(5).shape == (0, 4)


def test_gains_are_uniform_in_decibels() -> None:
    augment, sound = AudioAugmenter(AudioAugment(gain=(-12, 3))), wave(0)
    gains = []
    for key in range(2000):
        louder = augment(sound, key)
        gain = float(louder[0] / sound[0])
        np.testing.assert_allclose(louder, gain * sound, rtol=1e-5)
        gains.append(20 * math.log10(gain))
    quarters = Counter(int((gain + 12) / 15 * 4) for gain in gains)
    assert set(quarters) == {0, 1, 2, 3}
    assert all(abs(count - 500) < 5 * math.sqrt(2000 * 0.25 * 0.75) for count in quarters.values())


def test_noise_is_white_and_has_the_configured_ratio_to_the_sound() -> None:
    sound = wave(1, 40_000)
    added = AudioAugmenter(AudioAugment(noise=(20, 20)))(sound, 3) - sound
    assert decibels(np.square(sound).mean() / np.square(added).mean()) == pytest.approx(20, abs=0.01)
    correlation = np.corrcoef(added[1:], added[:-1])[0, 1]
    assert abs(correlation) < 5 / math.sqrt(len(added))


@pytest.mark.parametrize("frames", [1, 900, 4000, 9000])
@pytest.mark.parametrize("snr", [-3.0, 0.0, 17.5])
def test_a_mixture_is_the_sound_plus_another_at_the_given_ratio(frames: int, snr: float) -> None:
    sound, other = wave(1), 0.01 * wave(2, frames)
    added = (mixed(sound, other, snr).astype(float) - sound)[:frames]
    part = other[:4000].astype(float)
    scale = math.sqrt(np.square(sound).mean() / np.square(part).mean() / 10 ** (snr / 10))
    np.testing.assert_allclose(added[: len(part)], scale * part, atol=1e-5)
    assert not added[len(part) :].any()


def test_silence_is_not_mixed() -> None:
    sound, silence = wave(1), np.zeros(4000, np.float32)
    np.testing.assert_array_equal(mixed(sound, silence, 0), sound)
    np.testing.assert_array_equal(mixed(silence, sound, 0), silence)


def test_partners_are_drawn_uniformly_from_all_other_samples() -> None:
    augment = AudioAugmenter(AudioAugment(mix=0.25))
    partners = [augment.partner(key, 3, 11) for key in range(20_000)]
    assert abs(sum(partner is not None for partner in partners) / 20_000 - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 20_000)
    counts = Counter(partner for partner in partners if partner is not None)
    assert set(counts) == set(range(11)) - {3}
    expected = counts.total() / 10
    assert all(abs(count - expected) < 5 * math.sqrt(expected) for count in counts.values())
    assert AudioAugmenter(AudioAugment(mix=1.0)).partner(0, 0, 1) is None


def test_masks_have_the_configured_size_and_reach_everywhere() -> None:
    augment = AudioAugmenter(AudioAugment(frequency_masks=2, frequency_share=0.25, time_masks=1, time_share=0.5))
    masks = np.stack([augment.masks(key) for key in range(5000)])
    assert masks.shape == (5000, 3, 4)
    assert masks.dtype == np.float32
    frequency, time = masks[:, :2].reshape(-1, 4), masks[:, 2]
    assert (frequency[:, 2:] == [0, 1]).all()
    assert (time[:, :2] == [0, 1]).all()
    for low, high, most in [(*frequency[:, :2].T, 0.25), (*time[:, 2:].T, 0.5)]:
        assert (low >= 0).all()
        assert (low <= high).all()
        assert (high <= 1).all()
        width = high - low
        assert width.max() <= most + 1e-6
        assert width.mean() == pytest.approx(most / 2, rel=0.05)  # of U(0, most)
        assert (low / (1 - width)).mean() == pytest.approx(0.5, rel=0.05)  # anywhere in what room is left


def test_the_same_key_gives_the_same_sound() -> None:
    first, second, sound, other = AudioAugmenter(LOUD), AudioAugmenter(LOUD), wave(0), wave(1)
    state = np.random.get_state()[1].copy(), torch.get_rng_state()
    forward = [(first(sound, key, other), first.masks(key), first.partner(key, 0, 50)) for key in range(20)]
    backward = [(second.partner(key, 0, 50), second.masks(key), second(sound, key, other)) for key in range(19, -1, -1)]
    for (heard, masks, partner), (again_partner, again_masks, again) in zip(forward, backward[::-1], strict=True):
        np.testing.assert_array_equal(heard, again)
        np.testing.assert_array_equal(masks, again_masks)
        assert partner == again_partner
    assert len({heard.tobytes() for heard, _, _ in forward}) == 20
    assert (np.random.get_state()[1] == state[0]).all()
    assert torch.equal(torch.get_rng_state(), state[1])


def test_keys_differ_in_all_64_bits() -> None:
    augment = AudioAugmenter(LOUD)
    assert not np.array_equal(augment.masks(2**64 - 1), augment.masks(2**63 - 1))


def test_a_descending_range_is_refused() -> None:
    with pytest.raises(UserError, match=r"`gain`: \[6, -6\] is not a range; give the lower number first"):
        build(AudioAugment, {"gain": [6, -6]}, lambda key: "recipe")
