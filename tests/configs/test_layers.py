"""Layers: upper keys override lower ones."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.configs.layers import PLAIN, Layer, parse_override, written_in
from tercet.errors import UserError

KEYS = st.sampled_from(["a", "b", "c"])
MAPPINGS = st.recursive(
    st.dictionaries(KEYS, st.integers(), min_size=1),
    lambda inner: st.dictionaries(KEYS, inner | st.integers(), min_size=1),
    max_leaves=9,
)


def leaves(values: Mapping[str, Any], prefix: tuple[str, ...] = ()) -> dict[tuple[str, ...], int]:
    found: dict[tuple[str, ...], int] = {}
    for key, value in values.items():
        found |= leaves(value, (*prefix, key)) if isinstance(value, dict) else {(*prefix, key): value}
    return found


@given(MAPPINGS, MAPPINGS)
def test_lower_values_remain_unless_overridden(below: dict[str, Any], above: dict[str, Any]) -> None:
    def covers(upper: tuple[str, ...], lower: tuple[str, ...]) -> bool:
        shared = min(len(upper), len(lower))
        return upper[:shared] == lower[:shared]

    kept = {path: value for path, value in leaves(below).items() if not any(covers(up, path) for up in leaves(above))}
    assert leaves(PLAIN.lay(below, above)) == kept | leaves(above)


@pytest.mark.parametrize("text", ["steps", "=3", "a..b=3", ".a=1"])
def test_invalid_overrides_are_rejected(text: str) -> None:
    with pytest.raises(UserError, match="is not an override; write key=value"):
        parse_override(text)


def test_errors_name_the_layer_that_set_a_key() -> None:
    base, own = Layer("base.yaml", {"a": {"b": 1, "c": 2}}), Layer("own.yaml", {"a": {"b": 3}})
    layers = [base, own, Layer("command line", {"d": 1})]
    places = {key: written_in(layers, key) for key in ("a.b", "a.c", "a.b.0", "a.z", "d", "e")}
    assert places == {
        "a.b": "own.yaml", "a.c": "base.yaml", "a.b.0": "own.yaml", "a.z": "own.yaml", "d": "command line", "e": None,
    }  # fmt: skip
