import math
import multiprocessing
import pickle
import random
from functools import partial
from hashlib import sha256
from itertools import permutations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from torchvision.transforms.v2 import functional

from tercet.configs.base import build
from tercet.data_pipelines.seeding import keys, uniforms
from tercet.data_pipelines.transforms.config import ImageAugment
from tercet.data_pipelines.transforms.image import ImageAugmenter, RandAugment
from tercet.errors import UserError

Pixels = NDArray[np.uint8]
KEYS = keys("test", 1, 0, range(200)).tolist()
EVERYTHING = {
    "flip": 0.5,
    "jitter": 0.8,
    "grey": 0.2,
    "blur": 0.5,
    "solarise": 0.2,
    "randaugment": "rand-m9-n2-mstd0.5",
}


def augmenter(**config: object) -> ImageAugmenter:
    return ImageAugmenter(build(ImageAugment, config, lambda key: "test"))


def draws(name: str, key: int, count: int) -> list[float]:
    """Replaces the draws of an augmentation, after the draw that decides if it is applied."""
    drawn: list[float] = uniforms(name, key, 0, [0], 1 + count)[0, 1:].tolist()
    return drawn


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    """A smooth picture with every hue and shade, wider than high."""
    grain = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(grain).resize((64, 48), Image.Resampling.BICUBIC))


def planes(pixels: Pixels) -> torch.Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)


def test_without_options_pictures_do_not_change(pixels: Pixels) -> None:
    assert all(np.array_equal(augmenter()(pixels, key), pixels) for key in KEYS)


def test_flip_solarize_and_grayscale_equal_torchvision(pixels: Pixels) -> None:
    assert np.array_equal(augmenter(flip=1)(pixels, 1), pixels[:, ::-1])
    solarised = functional.solarize(planes(pixels), 128).permute(1, 2, 0)
    assert np.array_equal(augmenter(solarise=1)(pixels, 1), solarised)
    grey = functional.rgb_to_grayscale(planes(pixels), 3).permute(1, 2, 0).numpy()
    assert np.abs(augmenter(grey=1)(pixels, 1).astype(int) - grey).max() <= 1


@pytest.mark.parametrize("key", KEYS[:12])
def test_jitter_equals_torchvision_with_the_same_amounts_and_order(pixels: Pixels, key: int) -> None:
    strengths = (0.4, 0.3, 0.8, 0.2)
    *amounts, order = draws("jitter", key, 5)
    adjust = (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation)
    expected = Image.fromarray(pixels)
    for place in list(permutations(range(4)))[int(order * 24)]:
        by = strengths[place] * (2 * amounts[place] - 1)
        expected = functional.adjust_hue(expected, by) if place == 3 else adjust[place](expected, 1 + by)
    assert np.array_equal(augmenter(jitter=1, jitter_strength=strengths)(pixels, key), expected)


@pytest.mark.parametrize("key", KEYS[:6])
def test_blur_is_a_gaussian_with_the_drawn_sigma(pixels: Pixels, key: int) -> None:
    sigma = 0.5 + 1.5 * draws("blur", key, 1)[0]
    gaussian = functional.gaussian_blur(planes(pixels), [23, 23], [sigma, sigma]).permute(1, 2, 0).numpy()
    inner = slice(6, -6)  # beyond, torchvision mirrors the picture and Pillow repeats its border
    off = np.abs(augmenter(blur=1, blur_sigma=[0.5, 2])(pixels, key).astype(int) - gaussian)[inner, inner]
    assert off.mean() < 1.5
    assert off.mean() < 0.25 * np.abs(pixels.astype(int) - gaussian)[inner, inner].mean()


@pytest.mark.parametrize("policy", ["rand-m9-n2-mstd0.5", "rand-m5-n3-p0.8-inc1-mmax8", "rand-t3a", "rand-n1-tweights"])
def test_randaugment_equals_timm_with_the_same_seed(pixels: Pixels, policy: str) -> None:
    ours, timms = augmenter(randaugment=policy), rand_augment_transform(policy)
    changed = 0
    for key in KEYS[:20]:
        seed = int(draws("randaugment", key, 1)[0] * 2**32)
        random.seed(seed)
        np.random.seed(seed)
        expected = np.asarray(timms(Image.fromarray(pixels)))
        assert np.array_equal(ours(pixels, key), expected)
        changed += not np.array_equal(expected, pixels)
    assert changed > 5


@pytest.mark.parametrize("name", ["flip", "jitter", "grey", "blur", "solarise"])
def test_each_augmentation_applies_to_its_share_of_pictures(pixels: Pixels, name: str) -> None:
    augment = augmenter(**{name: 0.3}, blur_sigma=[1, 2])
    made = sum(not np.array_equal(augment(pixels, key), pixels) for key in keys("share", 1, 0, range(1500)).tolist())
    assert abs(made - 450) <= 5 * math.sqrt(1500 * 0.3 * 0.7)


def test_draws_do_not_depend_on_other_augmentations(pixels: Pixels) -> None:
    flipped = {key for key in KEYS if not np.array_equal(augmenter(flip=0.5)(pixels, key), pixels)}
    both = augmenter(flip=0.5, solarise=1)
    solarised = np.where(pixels < 128, pixels, 255 - pixels)
    assert {key for key in KEYS if np.array_equal(both(pixels, key), solarised[:, ::-1])} == flipped
    assert 60 < len(flipped) < 140


def digest(augment: ImageAugmenter, pixels: Pixels, key: int) -> str:
    return sha256(augment(pixels, key).tobytes()).hexdigest()


def test_the_same_key_gives_the_same_pixels(pixels: Pixels) -> None:
    augment = augmenter(**EVERYTHING)
    forth = {key: digest(augment, pixels, key) for key in KEYS[:60]}
    random.random()
    torch.rand(3)
    back = {key: digest(augment, pixels, key) for key in reversed(KEYS[:60])}
    assert forth == back
    assert len(set(forth.values())) > 50
    assert {key: digest(pickle.loads(pickle.dumps(augment)), pixels, key) for key in KEYS[:5]}.items() <= forth.items()


def test_a_forked_process_gives_the_same_pixels(pixels: Pixels) -> None:
    augment = augmenter(**EVERYTHING)
    here = [digest(augment, pixels, key) for key in KEYS[:30]]
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.map(partial(digest, augment, pixels), KEYS[:30]) == here


def test_global_random_states_do_not_change(pixels: Pixels) -> None:
    augment = augmenter(**EVERYTHING)
    for seed in (1, 2):
        random.seed(seed)
        torch.manual_seed(seed)
        np.random.seed(seed)
        undisturbed = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
        for key in KEYS[:20]:
            augment(pixels, key)
        now = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
        assert now == undisturbed


def test_global_random_states_are_restored_after_an_error() -> None:
    before = random.getstate(), np.random.get_state()[1].tolist()
    with pytest.raises((AttributeError, TypeError)):
        RandAugment("rand-n9-p1")([0.5], None)  # type: ignore[arg-type]
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def test_the_input_picture_is_not_modified(pixels: Pixels) -> None:
    original = pixels.copy()
    outcomes = [augmenter(**EVERYTHING)(pixels, key) for key in KEYS[:10]]
    assert np.array_equal(pixels, original)
    assert all(outcome.dtype == np.uint8 and outcome.shape == pixels.shape for outcome in outcomes)


def test_only_randaugment_uses_the_global_random_state() -> None:
    everything = ImageAugment.model_validate(EVERYTHING)
    assert everything.draws_globally
    assert not everything.model_copy(update={"randaugment": None}).draws_globally


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"flip": 1.5}, "`flip` is `1.5`"),
        ({"jitter_strength": [0.4, 0.4, 0.4, 0.6]}, "`jitter_strength`: the first three strengths are from 0 to 1"),
        ({"blur_sigma": [2, 1]}, "`blur_sigma`: [2, 1] is not a range of pixels"),
        ({"blur_sigma": [0, 1]}, "not a range of pixels"),
        ({"randaugment": "rand-m9-x3"}, "`randaugment`: rand-m9-x3 is not a RandAugment policy"),
        ({"randaugment": "augmix-m5"}, "not a RandAugment policy"),
        ({"randaugment": "rand-tfast"}, "not a RandAugment policy"),
        ({"solarize": 0.1}, "did you mean `solarise`?"),
    ],
)
def test_impossible_options_are_refused(config: dict[str, object], words: str) -> None:
    with pytest.raises(UserError) as error:
        augmenter(**config)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
