"""Which known name an unknown one is taken for."""

from hypothesis import given
from hypothesis import strategies as st

from tercet.errors import _edits, did_you_mean

NAMES = st.text("abc", max_size=6)


def naive(one: str, other: str) -> int:
    """By its recursive definition."""
    if not one or not other:
        return len(one) + len(other)
    ways = [
        naive(one[:-1], other) + 1,
        naive(one, other[:-1]) + 1,
        naive(one[:-1], other[:-1]) + (one[-1] != other[-1]),
    ]
    if len(one) > 1 and len(other) > 1 and one[-1] == other[-2] and one[-2] == other[-1]:
        ways.append(naive(one[:-2], other[:-2]) + 1)
    return min(ways)


@given(NAMES, NAMES)
def test_edit_distance_equals_its_definition(one: str, other: str) -> None:
    assert _edits(one, other) == naive(one, other)


def test_a_similar_name_is_suggested() -> None:
    for wrong, right in [("dmeo", "demo"), ("captoin", "caption"), ("EMA", "ema"), ("pol", "pool"), ("RN51", "RN50")]:
        assert did_you_mean(wrong, ["zero", right, "another"]) == f"did you mean `{right}`?"


def test_without_a_similar_name_the_known_names_are_listed() -> None:
    assert did_you_mean("speech", ["text", "key", "image"]) == "known: image, key, text"
    assert did_you_mean("png", ["jpg", "jpeg"]) == "known: jpeg, jpg"
    assert did_you_mean("x", []) == "there are none"
    assert did_you_mean("none", [f"name {n:02d}" for n in range(20)]).endswith("name 11, …")
