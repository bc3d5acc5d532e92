"""The recipes of FLIP, CLIPA and Long-CLIP, with and without the method: what it changes, and what not."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from tercet.data_pipelines.builtin.dataset import generate
from tercet.data_pipelines.sample import Batch
from tercet.distributed import World
from tercet.models.losses.terms import Outcome, Terms
from tests.training.published import INIT, SETS, WORLD, run_all, tiny

pytestmark = pytest.mark.long


@dataclass(frozen=True)
class Seen:
    """One step: its samples, the side of its pictures, the tokens of its texts, and the gradients by field."""

    ids: list[int]
    side: int
    tokens: int
    rows: dict[str, Tensor]


def watch(name: str, overrides: list[str]) -> list[Seen]:
    found, call = list[Seen](), Terms.__call__

    def look(self: Terms, batch: Batch, *rest: Any) -> Outcome:
        outcome = call(self, batch, *rest)
        side, tokens = batch.fields["image"].values.shape[-1], batch.fields["text"].values.shape[1]
        rows = {field: rows.clone() for field, rows in outcome.rows.items()}
        found.append(Seen(batch.ids.tolist(), side, tokens, rows))
        return outcome

    with patch.object(Terms, "__call__", look):
        run_all(World(), {name: overrides})
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(WORLD, tmp_path_factory.mktemp("world"))


def on_and_off(
    name: str, data: Path, out: Path, off: list[str], start: Sequence[str] = ()
) -> tuple[list[Seen], list[Seen]]:
    """Both runs, with the same samples in each step."""
    usual = tiny(name, data, out) + SETS[name] + list(start)
    one = watch(name, [*usual, f"out={out / 'on'}"])
    other = watch(name, [*usual, *off, f"out={out / 'off'}"])
    assert [step.ids for step in one] == [step.ids for step in other]
    return one, other


def test_flip_changes_the_gradient_of_the_same_batches(data: Path, tmp_path: Path) -> None:
    off = ["stages=[{name: masked, steps: 0.5}, {name: unmasked, steps: 0.5}]", "epochs=1"]
    on, whole = on_and_off("flip", data, tmp_path, off)
    assert [(step.side, step.tokens) for step in on] == [(step.side, step.tokens) for step in whole]
    assert not torch.allclose(on[0].rows["text"], whole[0].rows["text"], rtol=1e-2)


def test_clipa_reads_small_pictures_and_short_texts_first(data: Path, tmp_path: Path) -> None:
    off = ["stages=[{name: small, steps: 0.5}, {name: full, steps: 0.5}]", "epochs=1"]
    on, whole = on_and_off("clipa", data, tmp_path, off)
    assert [(step.side, step.tokens) for step in on] == [(16, 8), (32, 24)]
    assert [(step.side, step.tokens) for step in whole] == [(32, 24)] * 2


def test_long_clip_changes_the_gradients_of_pictures_and_short_captions_only(data: Path, tmp_path: Path) -> None:
    run_all(World(), {INIT: tiny(INIT, data, tmp_path)})
    off = ["terms=[{between: [image, text]}, {between: [image, text.short]}]"]
    on, plain = on_and_off("long_clip", data, tmp_path, off, [f"init={tmp_path / INIT}"])
    assert torch.equal(on[0].rows["text"], plain[0].rows["text"])
    for field in ("image", "text.short"):
        assert not torch.allclose(on[0].rows[field], plain[0].rows[field], rtol=1e-2), field
