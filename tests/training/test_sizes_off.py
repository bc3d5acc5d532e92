"""The recipes of FLIP, CLIPA and Long-CLIP, with and without the method: what it changes, and what not."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tercet.data_pipelines.builtin.dataset import generate
from tercet.distributed import World
from tests.training.published import INIT, SETS, WORLD, run_all, tiny
from tests.training.watched import Seen, watch

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(WORLD, tmp_path_factory.mktemp("world"))


def sizes(steps: list[Seen]) -> list[tuple[int, int]]:
    """The side of the pictures of each step, and the tokens of its texts."""
    return [(step.inputs["image"].shape[-1], step.inputs["text"].shape[1]) for step in steps]


def on_and_off(
    name: str, data: Path, out: Path, off: list[str], start: Sequence[str] = ()
) -> tuple[list[Seen], list[Seen]]:
    """Both runs, with the same samples in each step."""
    usual = tiny(name, data, out) + SETS[name] + list(start)
    recipes = {name: [*usual, f"out={out / 'on'}"], f"{name} off": [*usual, *off, f"out={out / 'off'}"]}
    one, other = watch(World(), recipes).values()
    assert [step.ids for step in one] == [step.ids for step in other]
    return one, other


def test_flip_changes_the_gradient_of_the_same_batches(data: Path, tmp_path: Path) -> None:
    off = ["stages=[{name: masked, steps: 0.5}, {name: unmasked, steps: 0.5}]", "epochs=1"]
    on, whole = on_and_off("flip", data, tmp_path, off)
    assert sizes(on) == sizes(whole)
    assert not torch.allclose(on[0].rows["text"], whole[0].rows["text"], rtol=1e-2)


def test_clipa_reads_small_pictures_and_short_texts_first(data: Path, tmp_path: Path) -> None:
    off = ["stages=[{name: small, steps: 0.5}, {name: full, steps: 0.5}]", "epochs=1"]
    on, whole = on_and_off("clipa", data, tmp_path, off)
    assert sizes(on) == [(16, 8), (32, 24)]
    assert sizes(whole) == [(32, 24)] * 2


def test_long_clip_changes_the_gradients_of_pictures_and_short_captions_only(data: Path, tmp_path: Path) -> None:
    run_all(World(), {INIT: tiny(INIT, data, tmp_path)})
    off = ["terms=[{between: [image, text]}, {between: [image, text.short]}]"]
    on, plain = on_and_off("long_clip", data, tmp_path, off, [f"init={tmp_path / INIT}"])
    assert torch.equal(on[0].rows["text"], plain[0].rows["text"])
    for field in ("image", "text.short"):
        assert not torch.allclose(on[0].rows[field], plain[0].rows[field], rtol=1e-2), field
