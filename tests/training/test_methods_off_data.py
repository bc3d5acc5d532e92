"""The recipes of methods on captions, sources and mixtures, with and without the method: what it changes.

Each recipe takes two steps, and all runs share one process. Recorded are the batch of each step as the terms see it,
and the gradient of the rows of each field.
"""

from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from tercet.data_pipelines.builtin.dataset import generate
from tercet.data_pipelines.sample import Batch
from tercet.distributed import World
from tercet.models.losses.terms import Known, Outcome, Terms
from tercet.testing import on_ranks
from tests.training.test_published_recipes import SETS, STAGED, WORLD, run_all, small_stages, tiny

pytestmark = pytest.mark.long

ON = ("laclip", "convirt", "me5", "zerovl")
OFF: dict[str, tuple[str, list[str]]] = {  # the recipe, and what leaves its method out
    "laclip without rewrites": ("laclip", ["data.train.captions={json.rewrites: 0}", "data.train.min_words=0"]),
    "convirt without weights": (
        "convirt", ["terms=[{between: [image, text], objective: {name: infonce, scale: 10, bounds: [10, 10]}}]"]
    ),
    "me5 without prefixes": ("me5", ["data.train.prefix=''", "fields={text.passage: {prefix: ''}}"]),
    "zerovl without single sources": ("zerovl", ["data.mix=within_batches"]),
    "zerovl without mixup": ("zerovl", ["mixup=null"]),
}  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """One step: the ids, the inputs and the gradients by field."""

    ids: list[int]
    inputs: dict[str, Tensor]
    rows: dict[str, Tensor]


def watch(world: World, recipes: dict[str, list[str]]) -> dict[str, list[Seen]]:
    found: dict[str, list[Seen]] = {name: [] for name in recipes}
    call = Terms.__call__

    def look(self: Terms, batch: Batch, vectors: Any, temperatures: Any, w: World, known: Known, step: int) -> Outcome:
        outcome = call(self, batch, vectors, temperatures, w, known, step)
        inputs = {name: field.values.clone() for name, field in batch}
        now.append(Seen(batch.ids.tolist(), inputs, {name: rows.clone() for name, rows in outcome.rows.items()}))
        return outcome

    with patch.object(Terms, "__call__", look):
        for name, overrides in recipes.items():
            now = found[name]
            run_all(world, {name.partition(" ")[0]: overrides})
    return found


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Seen]]:
    out = tmp_path_factory.mktemp("methods")
    world = generate(WORLD, out / "world")
    recipes = {}
    for name, (recipe, changes) in {**{name: (name, []) for name in ON}, **OFF}.items():
        stages = small_stages(recipe, world) if recipe in STAGED else []
        sets = [one.replace("WORLD", str(world / "train")) for one in SETS.get(recipe, [])]
        recipes[name] = [*tiny(recipe, world, out), *stages, *sets, *changes, f"out={out / name.replace(' ', '-')}"]
    (found,) = on_ranks(watch, 1, recipes)
    return found


def same(one: Seen, other: Seen) -> set[str]:
    """The fields whose inputs are equal."""
    return {name for name, value in one.inputs.items() if torch.equal(value, other.inputs[name])}


def test_rewrites_change_captions_and_no_picture(seen: dict[str, list[Seen]]) -> None:
    on, off = seen["laclip"][0], seen["laclip without rewrites"][0]
    assert on.ids == off.ids
    assert same(on, off) == {"image"}
    changed = (on.inputs["text"] != off.inputs["text"]).any(dim=1)
    assert changed.sum() >= 4, "four of five captions are rewrites"


def test_the_weights_of_convirt_change_gradients_only(seen: dict[str, list[Seen]]) -> None:
    on, off = seen["convirt"][0], seen["convirt without weights"][0]
    assert (on.ids, same(on, off)) == (off.ids, {"image", "text"})
    assert not torch.equal(on.rows["image"], off.rows["image"])


def test_the_prefixes_of_me5_change_every_text(seen: dict[str, list[Seen]]) -> None:
    on, off = seen["me5"][0], seen["me5 without prefixes"][0]
    assert on.ids == off.ids
    for name in ("text", "text.passage"):
        assert (on.inputs[name] != off.inputs[name]).any(dim=1).all(), name
    assert "text.negative" in seen["me5"][1].inputs
    assert "text.negative" not in seen["me5"][0].inputs


def test_batches_of_zerovl_come_from_one_source(seen: dict[str, list[Seen]]) -> None:
    """The ids of the second source follow those of the first."""
    assert [len({id // WORLD.train for id in step.ids}) for step in seen["zerovl"]] == [1, 1]
    assert [len({id // WORLD.train for id in step.ids}) for step in seen["zerovl without single sources"]] == [2, 2]


def test_the_mixup_of_zerovl_changes_pictures_or_gradients_of_texts(seen: dict[str, list[Seen]]) -> None:
    for on, off in zip(seen["zerovl"], seen["zerovl without mixup"], strict=True):
        assert on.ids == off.ids
        assert "text" in same(on, off)
        assert not torch.equal(on.rows["image"], off.rows["image"])
