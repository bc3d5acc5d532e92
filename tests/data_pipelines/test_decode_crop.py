import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.data_pipelines.captions.reader import Captions
from tercet.data_pipelines.transforms.crop import CentreView, RandomView, largest_box, placed, random_views

Area = tuple[float, float] | None


def view(id: int, area: Area = None, epoch: int = 0) -> RandomView:
    return random_views("train", 0, [epoch], [id], area)[0]


sides = st.tuples(st.integers(1, 4000), st.integers(1, 4000))


@given(picture=sides, size=sides, low=st.floats(0.05, 1), id=st.integers(0, 2**40))
def test_every_crop_lies_in_the_picture(picture: tuple[int, int], size: tuple[int, int], low: float, id: int) -> None:
    left, upper, right, lower = view(id, (low, 1.0), 3).box(picture, size)
    assert -1e-6 <= left < right <= picture[0] + 1e-6
    assert -1e-6 <= upper < lower <= picture[1] + 1e-6


@given(picture=sides, size=sides)
def test_the_centre_crop_is_the_largest_within_a_pixel_of_the_result(
    picture: tuple[int, int], size: tuple[int, int]
) -> None:
    box, ideal = CentreView().box(picture, size), placed(picture, largest_box(picture, size[0] / size[1]), 0.5, 0.5)
    pixel = (ideal[2] - ideal[0]) / size[0]
    assert max(abs(edge - other) for edge, other in zip(box, ideal, strict=True)) <= 1.5 * pixel
    assert min(box) >= 0
    assert np.float32(box[2]) <= picture[0]  # as Pillow asks for
    assert np.float32(box[3]) <= picture[1]


def boxes(area: tuple[float, float], picture: tuple[int, int] = (100, 100)) -> np.ndarray:
    return np.array([one.box(picture, (32, 32)) for one in random_views("train", 0, [0] * 3000, range(3000), area)])


def test_sizes_and_places_of_crops_are_uniform() -> None:
    left, upper, right, lower = boxes((0.6, 0.9)).T
    share = (right - left) * (lower - upper) / 1e4
    assert np.allclose(np.quantile(share, [0, 0.25, 0.5, 0.75, 1]), [0.6, 0.675, 0.75, 0.825, 0.9], atol=0.015)
    for place in (left / (100 - right + left), upper / (100 - lower + upper)):
        assert np.allclose(np.quantile(place, [0, 0.25, 0.5, 0.75, 1]), [0, 0.25, 0.5, 0.75, 1], atol=0.04)


def test_only_wide_crops_vary_in_shape() -> None:
    left, upper, right, lower = boxes((0.5, 1.0)).T
    assert np.allclose(right - left, lower - upper)
    left, upper, right, lower = boxes((0.2, 1.0), (400, 300)).T
    shape = (right - left) / (lower - upper)
    assert shape.min() == pytest.approx(3 / 4, abs=0.01)
    assert shape.max() == pytest.approx(4 / 3, abs=0.01)
    assert np.median(shape) == pytest.approx(1, abs=0.03)


def test_sound_crops_start_anywhere_and_short_sounds_are_whole() -> None:
    starts = {view(id).span(13, 10) for id in range(200)}
    assert starts == {(0, 10), (1, 11), (2, 12), (3, 13)}
    assert view(0).span(7, 10) == (0, 7)
    assert CentreView().span(13, 10) == (0, 13)


def test_each_caption_is_drawn_equally_often() -> None:
    captions = Captions((("a", "b", "c"),), (1.0,))
    drawn = [one.captions(captions) for one in random_views("train", 0, range(3000), [9] * 3000, None)]
    counts = np.array([drawn.count((caption,)) for caption in "abc"])
    assert counts.sum() == 3000
    assert abs(counts - 1000).max() < 5 * math.sqrt(3000 * 2 / 9)
    assert CentreView().captions(captions) == ("a", "b", "c")


def test_views_differ_between_sources_epochs_and_samples() -> None:
    views = [view(1), view(2), view(1, epoch=1), random_views("other", 0, [0], [1], None)[0]]
    assert len({(tuple(one.draws), one.key) for one in views}) == 4
    assert random_views("train", 0, [0, 1], [1, 1], None) == [views[0], views[2]]
