"""Samples that a selection left out are negatives of the kept ones: the loss and its gradient against autograd."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tercet.benchmarks.gradients.case import ITEMS, Case, make_batch
from tercet.benchmarks.gradients.ours import GradientCase
from tercet.benchmarks.gradients.truth import model_of
from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.losses.terms import Terms
from tercet.models.term_config import TermConfig
from tercet.testing import on_ranks
from tercet.training.config import RunConfig
from tercet.training.loop.step import Step, existing
from tercet.training.memory.memories import Memories
from tercet.training.memory.unselected import Unselected
from tercet.training.preflight.checks import check_selected
from tercet.training.selection.config import SelectionConfig
from tercet.training.selection.select import Selection
from tests.training.test_resume import run_all
from tests.training.tiny import MODEL, assert_same_run, recipe

TERM = TermConfig(between=("image", "text"), against={"image": ("unselected.text",), "text": ("unselected.image",)})
GROUPS = 20  # fewer than items, so some anchors share a group with an item that is left out


@dataclass(frozen=True)
class Found:
    """The ids that were kept, the loss, and this rank's gradients of pictures and captions."""

    ids: list[int]
    loss: float
    slopes: tuple[Tensor, Tensor]


def find(world: World, folder: Path, micro_batch: int | None) -> Found:
    case = Case(world.size, 0)
    bench = GradientCase(world, case)
    batch = make_batch(bench.engine.module, case, "all rows", world)  # type: ignore[arg-type]
    memories = Memories({"unselected": Unselected(("image", "text"), 512, world.device)})
    step = Step(bench.engine, Terms((TERM,), 7), world, 0, micro_batch, memories)
    config = SelectionConfig(name="random", filter_ratio=0.5, strata=2)
    kept = Selection(config, ITEMS // 2, step, folder)(batch, 0).batch
    with torch.no_grad():
        vectors, temperatures = bench.engine.module.eval()(kept)
    outcome = step.terms(kept, existing(kept, vectors), temperatures, world, memories.known(kept))
    slopes = outcome.rows["image"], outcome.rows["text"]
    memories.leave_out({})
    assert all(len(rows) == 0 for rows in memories.known(kept).frozen.values())
    return Found(kept.ids.tolist(), float(outcome.loss), slopes)


def truth(kept: list[int]) -> tuple[float, tuple[Tensor, Tensor]]:
    """Autograd on the whole matrix, in which only the kept rows are anchors and only they have a gradient."""
    case = Case(1, 0)
    model = model_of(case, torch.device("cpu")).eval()
    batch = make_batch(model, case, "all rows", World())
    with torch.no_grad():
        vectors, temperatures = model(batch)
    own = torch.tensor(kept)
    rest = torch.tensor([id for id in range(ITEMS) if id not in kept])
    image, text = (vectors[name][own].double().requires_grad_() for name in ("image", "text"))
    group = torch.cat([own, rest]) % GROUPS
    hidden = group[: len(own), None] == group
    hidden[torch.arange(len(own)), torch.arange(len(own))] = False
    total = torch.zeros((), dtype=torch.float64)
    for anchors, keys, name in ((image, text, "text"), (text, image, "image")):
        every = torch.cat([keys, vectors[name][rest].double()])
        logits = (temperatures["image-text"][0].double() * anchors @ every.T).masked_fill(hidden, -torch.inf)
        total = total + cross_entropy(logits, torch.arange(len(own))) / 2
    total.backward()
    assert image.grad is not None
    assert text.grad is not None
    return float(total.detach()), (image.grad, text.grad)


@pytest.mark.parametrize("processes", [1, 2])
def test_what_a_selection_left_out_repels_the_kept_samples(processes: int, tmp_path: Path) -> None:
    ranks = on_ranks(find, processes, tmp_path, 5 if processes == 2 else None)
    ids = [id for rank in ranks for id in rank.ids]
    assert len(ids) == ITEMS // 2
    loss, slopes = truth(ids)
    for place, slope in enumerate(slopes):
        found = torch.cat([rank.slopes[place] for rank in ranks])
        torch.testing.assert_close(found.double(), slope, rtol=1e-4, atol=1e-7)
    assert ranks[0].loss == pytest.approx(loss, rel=1e-5)


def test_a_run_with_them_resumes_with_the_same_bits(world_folder: Path, tmp_path: Path) -> None:
    more: dict[str, Any] = {
        "model": {**MODEL, "audio": None}, "pairs": {"image-text": 1.0}, "steps": 5, "checkpoint": {"every": 2},
        "selection": {"name": "loss", "filter_ratio": 0.5}, "memories": {"unselected": {"fields": ["image", "text"]}},
        "against": {"image": ["unselected.text"], "text": ["unselected.image"]},
    }  # fmt: skip
    whole, parts = (recipe(world_folder, tmp_path / name, **more) for name in ("whole", "parts"))
    on_ranks(run_all, 2, [(whole, None), (parts, 3), (parts, None)])
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_without_a_selection_it_is_refused(world_folder: Path, tmp_path: Path) -> None:
    values = recipe(world_folder, tmp_path, memories={"rest": {"kind": "unselected", "fields": ["image"]}})
    with pytest.raises(UserError, match=r"memories\.rest keeps samples that a selection leaves out, and there is none"):
        check_selected(RunConfig.model_validate(values))
    check_selected(RunConfig.model_validate(values | {"selection": {"name": "loss", "filter_ratio": 0.5}}))
