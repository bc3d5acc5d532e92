"""Ticks of an axis, and the numbers beside them."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tercet.page.axis import labels, ticks, words


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(3, 8))
def test_ticks_are_round_few_and_around_the_values(low: float, span: float, about: int) -> None:
    assume(span > 1e-9 * abs(low))  # finer than that, a double has no ticks
    found = ticks(low, low + span, about)
    steps = np.diff(found)
    assert found[0] <= low + 1e-6 * span
    assert found[-1] >= low + span - 1e-6 * span
    assert 2 <= len(found) <= about + 2
    assert f"{steps[0]:.0e}"[0] in "125"


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (0.0, "0"),
        (0.002, "0.002"),
        (2e-5, "2e-5"),
        (1234.0, "1,234"),
        (51200.0, "51.2k"),
        (2.5e6, "2.5M"),
        (3e9, "3G"),
    ],
)
def test_numbers_on_axes_are_short(value: float, label: str) -> None:
    assert words(value) == label


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_labels_of_ticks_are_distinct(low: float, span: float) -> None:
    assume(span > 1e-9 * abs(low))
    found = ticks(low, low + span, 4)
    label = labels(found)
    assert len(set(label)) == len(found)


def test_labels_of_ticks_have_enough_digits() -> None:
    assert labels([14.22, 14.24]) == ["14.22", "14.24"]
    assert labels([0.0, 0.05]) == ["0", "0.05"]
    assert labels([51_000.0, 51_020.0]) == ["51k", "51.02k"]
