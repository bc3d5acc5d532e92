"""The recipes of methods on captions, sources and mixtures, with and without the method: what it changes.

Each recipe takes two steps, and all runs share one process.
"""

import pytest
import torch

from tercet.data_pipelines.builtin.dataset import generate
from tercet.testing import on_ranks
from tests.training.published import INIT, SETS, STAGED, STARTED, WORLD, small_stages, tiny
from tests.training.watched import Seen, watch

pytestmark = pytest.mark.long

ON = ("laclip", "convirt", "me5", "zerovl", "gcl", "dreamlip", "jina_clip_v1", "siglip2")
OFF: dict[str, tuple[str, list[str]]] = {  # the recipe, and what leaves its method out
    "laclip without rewrites": ("laclip", ["data.train.captions={json.rewrites: 0}", "data.train.min_words=0"]),
    "convirt without weights": (
        "convirt", ["terms=[{between: [image, text], objective: {name: infonce, scale: 10, bounds: [10, 10]}}]"]
    ),
    "me5 without prefixes": ("me5", ["data.train.prefix=''", "fields={text.passage: {prefix: ''}}"]),
    "jina_clip_v1 without texts": ("jina_clip_v1", ["terms=[{between: [image, text]}]"]),
    "gcl without titles": ("gcl", ["terms=[{between: [image, text], objective: {name: graded, value: relevance}}]"]),
    "dreamlip without patches": ("dreamlip", ["terms=[{between: [image, text.sentence]}]"]),
    "zerovl without single sources": ("zerovl", ["data.mix=within_batches"]),
    "zerovl without mixup": ("zerovl", ["mixup=null"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Seen]]:
    out = tmp_path_factory.mktemp("methods")
    world = generate(WORLD, out / "world")
    recipes = {INIT: tiny(INIT, world, out)}
    for name, (recipe, changes) in {**{name: (name, []) for name in ON}, **OFF}.items():
        init = [f"init={out / INIT}"] if recipe in STARTED else []
        stages = small_stages(recipe, world) if recipe in STAGED else []
        sets = [one.replace("TRAIN", str(world / "train")) for one in SETS.get(recipe, [])]
        recipes[name] = [
            *tiny(recipe, world, out),
            *init,
            *stages,
            *sets,
            *changes,
            f"out={out / name.replace(' ', '-')}",
        ]
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


def test_half_of_a_batch_of_jina_are_texts_that_change_no_gradient_of_pictures(seen: dict[str, list[Seen]]) -> None:
    """The second step is one of triplets."""
    (on, last), (off, _) = seen["jina_clip_v1"], seen["jina_clip_v1 without texts"]
    assert on.ids == off.ids
    assert (len(on.inputs["text"]), len(on.inputs["image"])) == (16, 8)
    assert torch.equal(on.rows["image"], off.rows["image"])
    assert not torch.equal(on.rows["text"], off.rows["text"])
    assert on.rows["text.positive"].abs().sum() > 0
    assert last.rows["text.negative"].abs().sum() > 0


def test_titles_change_the_gradients_of_gcl(seen: dict[str, list[Seen]]) -> None:
    on, off = seen["gcl"][0], seen["gcl without titles"][0]
    assert on.ids == off.ids
    assert on.rows["text.title"].abs().sum() > 0
    assert not torch.equal(on.rows["image"], off.rows["image"])


def test_patches_get_gradients_in_dreamlip_only(seen: dict[str, list[Seen]]) -> None:
    on, off = seen["dreamlip"][0], seen["dreamlip without patches"][0]
    assert on.ids == off.ids
    assert on.rows["image tokens"].abs().sum() > 0
    assert "image tokens" not in off.rows
    assert torch.equal(on.rows["image"], off.rows["image"])
    assert not torch.equal(on.rows["text.sentence"], off.rows["text.sentence"])


def test_small_crops_and_patches_of_siglip2_get_gradients_in_the_last_stage(seen: dict[str, list[Seen]]) -> None:
    first, last = seen["siglip2"]
    assert first.ids != last.ids
    assert "image.local" not in first.rows
    for name in ("image.local@distillation", "image.masked tokens@masked"):
        assert last.rows[name].abs().sum() > 0, name
    assert last.rows["image"].abs().sum() > 0
