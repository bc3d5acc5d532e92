"""The recipes that learn from teachers, with and without the method: which losses and gradients it changes."""

import json
from typing import Any

import pytest
import torch

from tercet.data_pipelines.builtin.dataset import generate
from tercet.testing import on_ranks
from tests.training.published import INIT, SETS, STARTED, WORLD, small_projectors, tiny
from tests.training.watched import Seen, watch

pytestmark = pytest.mark.long

ON = ("silc", "rs_m_clip", "unic")


def small_terms(name: str) -> list[dict[str, Any]]:
    (overrides,) = small_projectors(name)
    terms: list[dict[str, Any]] = json.loads(overrides.removeprefix("terms="))
    return terms


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Seen]]:
    out = tmp_path_factory.mktemp("teachers")
    world = generate(WORLD, out / "world")
    changes: dict[str, tuple[str, list[str]]] = {name: (name, []) for name in ON}
    for name in ("silc", "rs_m_clip"):
        changes[f"{name} without local crops"] = (name, [f"terms={json.dumps(small_terms(name)[:1])}"])
    changes["rs_m_clip without translations"] = ("rs_m_clip", ["fields={text.languages: {from: txt}}"])
    (term,) = small_terms("unic")
    term["objective"]["drop"] = 0
    changes["unic without dropping"] = ("unic", [f"terms={json.dumps([term])}"])
    recipes = {INIT: tiny(INIT, world, out)}
    for name, (recipe, more) in changes.items():
        sets = [one.replace("MODEL", str(out / INIT)) for one in SETS[recipe]]
        init = [f"init={out / INIT}"] if recipe in STARTED else []
        recipes[name] = [*tiny(recipe, world, out), *sets, *init, *more, f"out={out / name.replace(' ', '-')}"]
    (found,) = on_ranks(watch, 1, recipes)
    return found


@pytest.mark.parametrize(("name", "texts"), [("silc", "text"), ("rs_m_clip", "text.languages")])
def test_local_crops_change_towers_but_no_gradient_of_captions(
    seen: dict[str, list[Seen]], name: str, texts: str
) -> None:
    """In the first step, the weights are the same, so the rows of the joint space have the same gradients."""
    on, off = seen[name], seen[f"{name} without local crops"]
    assert on[0].ids == off[0].ids
    for field in ("image.global", texts):
        assert torch.equal(on[0].rows[field], off[0].rows[field])
        assert not torch.equal(on[1].rows[field], off[1].rows[field])
    assert on[0].rows["image.local@local-global"].abs().sum() > 0
    assert not any("local" in field for field in off[0].rows)


def test_translations_change_the_captions_alone(seen: dict[str, list[Seen]]) -> None:
    on, off = seen["rs_m_clip"][0], seen["rs_m_clip without translations"][0]
    assert on.ids == off.ids
    assert not torch.equal(on.rows["text.languages"], off.rows["text.languages"])
    assert torch.equal(on.rows["image.local@local-global"], off.rows["image.local@local-global"])


def test_a_dropped_teacher_has_no_gradient_in_its_row(seen: dict[str, list[Seen]]) -> None:
    """Four teachers of 16 dimensions each."""
    parts = {
        name: seen[name][0].rows["image@teachers"].unflatten(1, (4, 16)).abs().sum(dim=2) > 0
        for name in ("unic", "unic without dropping")
    }
    assert parts["unic without dropping"].all()
    assert parts["unic"].any(dim=1).all()
    assert 0.4 < parts["unic"].double().mean() < 0.85, "one stays, and the other three with a probability of 0.5"
