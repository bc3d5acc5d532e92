"""Layers of a recipe: two keys that say the same thing do not add up."""

from tercet.configs.layers import parse_override
from tercet.training.layering import RECIPE


def test_pairs_and_terms_replace_each_other() -> None:
    assert RECIPE.lay({"terms": [1], "a": 1}, {"pairs": {"image-text": 1}}) == {"a": 1, "pairs": {"image-text": 1}}
    assert RECIPE.lay({"pairs": {"image-text": 1}, "objective": "sigmoid"}, {"terms": [1]}) == {"terms": [1]}


def test_a_key_set_to_null_replaces_no_other_key() -> None:
    """`steps=0 epochs=null` is a run of no steps, not one of as many as there are by default."""
    assert RECIPE.stack([parse_override(text) for text in ("epochs=10", "steps=0", "epochs=null")])["steps"] == 0
    assert RECIPE.lay({"epochs": 45, "stages": [1]}, {"stages": None}) == {"epochs": 45, "stages": None}


def test_a_component_with_another_name_does_not_inherit_settings() -> None:
    below = {"objective": {"name": "infonce", "smoothing": 0.1}}
    assert RECIPE.lay(below, {"objective": {"name": "sigmoid"}}) == {"objective": {"name": "sigmoid"}}
    assert RECIPE.lay(below, {"objective": {"smoothing": 0.2}}) == {"objective": {"name": "infonce", "smoothing": 0.2}}


def test_overrides_stack_from_left_to_right() -> None:
    overrides = ["objective=focal_nce", "objective.gamma=1", "stages=[{name: a, steps: 3}]", "stages.0.steps=1e1"]
    assert RECIPE.stack([parse_override(text) for text in overrides]) == {
        "objective": {"name": "focal_nce", "gamma": 1},
        "stages": [{"name": "a", "steps": 10.0}],
    }
