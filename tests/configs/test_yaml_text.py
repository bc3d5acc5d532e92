"""YAML: the scalars of the core schema, and written values read back equal."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.configs.yaml_text import read_yaml, write_yaml
from tercet.errors import UserError

# PyYAML turns rare line separators of Unicode into spaces; recipes do not contain them.
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]))
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001), ("1E5", 1e5), (".5", 0.5), ("-2.", -2.0), ("010", 10), ("100_000", 100_000), ("1:30", "1:30"),
        ("off", "off"), ("no", "no"), ("yes", "yes"), ("true", True), ("2024-01-01", "2024-01-01"), ("", None),
        ("~", None), ("-.inf", -math.inf), ("v1e-3", "v1e-3"),
    ],
)  # fmt: skip
def test_plain_scalars(text: str, value: object) -> None:
    found = read_yaml(text, "here")
    assert found == value
    assert type(found) is type(value)


@given(TREES)
def test_written_values_read_back_equal(tree: object) -> None:
    assert read_yaml(write_yaml(tree), "here") == tree


@pytest.mark.parametrize("text", ["a: [1", "a: 1\na: 2", "!!python/object/apply:os.system ['true']", "a: \x00"])
def test_invalid_yaml_is_rejected_in_one_line(text: str) -> None:
    with pytest.raises(UserError, match=r"^recipe\.yaml.*not valid YAML: ") as refused:
        read_yaml(text, "recipe.yaml")
    assert "\n" not in str(refused.value)
