"""The recipes of methods on negatives and prototypes, with and without the method: what it changes, and what not.

Each recipe takes two steps, and all runs share one process.
"""

import json
from typing import Any

import pytest
import torch

from tercet.data_pipelines.builtin.dataset import generate
from tercet.data_pipelines.sources.open import open_source
from tercet.modality import unnormalised_of
from tercet.testing import on_ranks
from tercet.training.recipe import load_recipe
from tests.training.published import (
    INIT,
    SETS,
    STARTED,
    WORLD,
    tiny,
    with_small_projectors,
    write_orders,
)
from tests.training.watched import Seen, watch

pytestmark = pytest.mark.long

SECOND = {"clip_rocket": "views", "slip": "simclr", "barlip": "barlow", "swalip": "prototypes"}  # with a projector
TAUGHT = ("clip_refine", "proclip", "teachtext")
ON = ("negclip", "degla", "scincl", "unime", "mcl", "protoclip", "beclr", *SECOND, *TAUGHT)
CLUSTERED = ["episodes={every: 1, samples: 16}", "memories.prototypes.clusters=4"]
OFF: dict[str, tuple[str, list[str]]] = {  # the recipe, and what leaves its method out
    "negclip without neighbours": ("negclip", ["data.neighbors=null"]),
    "negclip without wrong captions": ("negclip", ["against={image: []}"]),
    "scincl without neighbours": ("scincl", ["data.neighbors=null"]),
    "unime without its filters": ("unime", ["objective.top_k=null", "objective.margin=null"]),
    "mcl without clusters": ("mcl", ["data.clusters=null"]),
    "protoclip without prototypes": (
        "protoclip", ["terms=[{between: [image, text]}]", "memories.prototypes=null", "episodes=null"]
    ),
}  # fmt: skip
PARTS = {"degla": ("image-text.local", "text-momentum", "distillation"), "clip_refine": ("alignment",)}
PARTS |= {"proclip": ("structure",), "teachtext": ("distillation",)}
BECLR = {"nearest": {"nearest": None}, "positives of the memory": {"weight_cluster": 0}}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Seen]]:
    out = tmp_path_factory.mktemp("methods")
    world = generate(WORLD, out / "world")
    write_orders(out, open_source(str(world / "train")).fingerprint)
    recipes = {INIT: tiny(INIT, world, out)}
    off = {name: (recipe, changes) for name, (recipe, changes) in OFF.items()}
    for part, option in BECLR.items():
        off[f"beclr without {part}"] = ("beclr", [f"terms={json.dumps(terms_with(option))}"])
    for name, parts in PARTS.items():
        for part in parts:
            off[f"{name} without {part}"] = (name, [f"terms={json.dumps(terms_without(name, part))}"])
    for name, term in SECOND.items():
        off[f"{name} without {term}"] = (name, with_small_projectors(name, term))
    for name, (recipe, changes) in {**{name: (name, []) for name in ON}, **off}.items():
        places = {"GRAPH": str(out / "graph"), "CLUSTERS": str(out / "c"), "MODEL": str(out / INIT)}
        sets = [*SETS.get(recipe, []), *(CLUSTERED if recipe == "protoclip" else [])]
        for word, place in places.items():
            sets = [one.replace(word, place) for one in sets]
        init = [f"init={out / INIT}"] if recipe in STARTED else []
        run = f"out={out / name.replace(' ', '-')}"
        recipes[name] = [*tiny(recipe, world, out), *sets, *init, *changes, run]
    (found,) = on_ranks(watch, 1, recipes)
    return found


def terms_without(recipe: str, name: str) -> list[dict[str, Any]]:
    terms = [term.model_dump(mode="json", exclude_defaults=True) for term in load_recipe(recipe).terms]
    return [term for term in terms if term.get("name") != name]


def terms_with(option: dict[str, Any]) -> list[dict[str, Any]]:
    terms = [term.model_dump(mode="json", exclude_defaults=True) for term in load_recipe("beclr").terms]
    return [{**term, "objective": {**term["objective"], **option}} for term in terms]


@pytest.mark.parametrize("name", ["negclip", "scincl"])
def test_neighbours_replace_half_of_a_batch_or_less(seen: dict[str, list[Seen]], name: str) -> None:
    """The others are the first samples of the plain order. Neighbours are one to three ids further."""
    first, plain = seen[name][0].ids, seen[f"{name} without neighbours"][0].ids
    brought = [id for id in first if id not in plain]
    assert 0 < len(brought) <= len(first) // 2
    assert all(any((id - step) % WORLD.train in first for step in (1, 2, 3)) for id in brought)


def test_wrong_captions_change_the_gradient_of_pictures(seen: dict[str, list[Seen]]) -> None:
    on, off = seen["negclip"][0], seen["negclip without wrong captions"][0]
    assert on.ids == off.ids
    assert on.rows["text.negative"].abs().sum() > 0
    assert "text.negative" not in off.rows
    assert not torch.equal(on.rows["image"], off.rows["image"])


@pytest.mark.parametrize(("part", "field", "step"), [
    ("image-text.local", "image", 0), ("text-momentum", "text", 0), ("distillation", "text.negative", 1),
])  # fmt: skip
def test_each_part_of_degla_changes_a_gradient(seen: dict[str, list[Seen]], part: str, field: str, step: int) -> None:
    """Distillation pulls from the second step on, when the average is no longer the model."""
    on, off = seen["degla"], seen[f"degla without {part}"]
    assert part in on[step].losses
    assert part not in off[step].losses
    assert on[0].ids == off[0].ids
    assert not torch.equal(on[step].rows[field], off[step].rows[field])


def test_the_filters_of_unime_change_gradients_but_no_batch(seen: dict[str, list[Seen]]) -> None:
    on, off = seen["unime"][0], seen["unime without its filters"][0]
    assert on.ids == off.ids
    assert not torch.equal(on.rows["image"], off.rows["image"])


def test_batches_of_mcl_come_from_one_cluster(seen: dict[str, list[Seen]]) -> None:
    """The cluster of a sample is its id modulo 2."""
    assert [len({id % 2 for id in step.ids}) for step in seen["mcl"]] == [1, 1]
    assert [len({id % 2 for id in step.ids}) for step in seen["mcl without clusters"]] == [2, 2]


def test_prototypes_change_gradients_after_the_first_episode(seen: dict[str, list[Seen]]) -> None:
    on, off = seen["protoclip"], seen["protoclip without prototypes"]
    assert on[0].ids == off[0].ids
    assert torch.equal(on[0].rows["image"], off[0].rows["image"])
    assert on[0].losses["prototypes"] == 0
    assert on[1].losses["prototypes"] > 0
    assert not torch.equal(on[1].rows["image"], off[1].rows["image"])


@pytest.mark.parametrize("part", BECLR)
def test_the_memory_of_beclr_changes_gradients_once_it_is_full(seen: dict[str, list[Seen]], part: str) -> None:
    on, off = seen["beclr"], seen[f"beclr without {part}"]
    assert [step.ids for step in on] == [step.ids for step in off]
    assert torch.equal(on[0].rows["image"], off[0].rows["image"])
    for crop in ("image", "image.again"):
        assert not torch.equal(on[1].rows[crop], off[1].rows[crop])


@pytest.mark.parametrize(("name", "term"), SECOND.items())
def test_a_second_term_changes_the_towers_and_not_the_first_gradient(
    seen: dict[str, list[Seen]], name: str, term: str
) -> None:
    """Through its projector, it has rows of its own. What it does to the towers shows in the next step."""
    on, off = seen[name], seen[f"{name} without {term}"]
    assert [step.ids for step in on] == [step.ids for step in off]
    own = [rows for rows in on[0].rows if rows.endswith(f"@{term}")]
    assert len(own) == 2
    assert all(on[0].rows[rows].abs().sum() > 0 for rows in own)
    assert {*on[0].rows} - {*own} == {*off[0].rows}
    assert all(torch.equal(on[0].rows[rows], off[0].rows[rows]) for rows in off[0].rows)
    assert on[1].losses["image-text"] != off[1].losses["image-text"]


def test_random_alignment_trains_the_vectors_before_normalisation_alone(seen: dict[str, list[Seen]]) -> None:
    on, off = seen["clip_refine"][0], seen["clip_refine without alignment"][0]
    assert on.ids == off.ids
    for field in ("image", "text"):
        assert torch.equal(on.rows[field], off.rows[field])
        assert on.rows[unnormalised_of(field)].norm(dim=1).min() > 0
        assert unnormalised_of(field) not in off.rows


def test_teachers_of_similarities_change_the_gradient_of_both_fields(seen: dict[str, list[Seen]]) -> None:
    on, off = seen["teachtext"][0], seen["teachtext without distillation"][0]
    assert on.ids == off.ids
    assert on.losses["distillation"] > 0
    assert not torch.equal(on.rows["image"], off.rows["image"])
    assert not torch.equal(on.rows["text"], off.rows["text"])


def test_proclip_first_trains_captions_alone_and_then_holds_pictures(seen: dict[str, list[Seen]]) -> None:
    """Without the structure in the second stage, only the gradient of pictures changes."""
    on, off = seen["proclip"], seen["proclip without structure"]
    assert [sorted(step.rows) for step in on] == [["text"], ["image", "text"]]
    assert on[0].losses.keys() == {"instance", "structure"}
    assert on[1].losses.keys() == {"image-text", "instance", "structure"}
    assert torch.equal(on[0].rows["text"], off[0].rows["text"])
    assert torch.equal(on[1].rows["text"], off[1].rows["text"])
    assert not torch.equal(on[1].rows["image"], off[1].rows["image"])
