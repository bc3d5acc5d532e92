"""The memory of docs/architecture.md in runs on two ranks, and the column that docs/memories.md reads."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.data_pipelines.columns import read_column
from tercet.data_pipelines.sources.open import open_source
from tercet.distributed import World
from tercet.models.losses.objective import build_term
from tercet.plugins import load_plugins
from tercet.testing import on_ranks
from tercet.training.recipe import load_recipe
from tests.training.conftest import world_folder as world_folder
from tests.training.test_memories import watched
from tests.training.tiny import losses, recipe, run, saved

DOCS = Path(__file__).resolve().parents[2] / "docs"


def block(page: str, name: str) -> str:
    (found,) = re.findall(rf"```python\n(# {re.escape(name)}.+?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)
    return str(found)


def train_with(
    world: World, plugin: Path, jobs: list[tuple[dict[str, Any], int | None]]
) -> list[tuple[Tensor, Tensor]]:
    """Of each step of the first run: the vectors of all pictures, and what the memory offered before it."""
    load_plugins([plugin])
    seen = []
    for values, stop in jobs:
        with watched(broken=-1) as watch:
            run(world, values, stop)
        steps = zip(watch.outcomes, watch.offered, strict=True)
        seen.append([(outcome.gathered["image"].z_Nd, rows["centre.image"].z_Nd) for outcome, rows in steps])
    return seen[0]


def test_the_memory_on_the_page_trains_and_resumes(world_folder: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "centre.py"
    plugin.write_text(block("architecture.md", "centre.py"), encoding="utf-8")
    centre = {"memories": {"centre": {"field": "image", "momentum": 0.7}}, "against": {"text": ["centre.image"]}}
    whole = recipe(world_folder, tmp_path / "whole", steps=6, zero=2, **centre)
    parts = recipe(world_folder, tmp_path / "parts", steps=6, zero=2, checkpoint={"every": 3}, **centre)
    for rank in on_ranks(train_with, 2, plugin, [(whole, None), (parts, 4), (parts, None)]):
        mean = torch.zeros(0)
        for number, (vectors, offered) in enumerate(rank):
            assert len(offered) == min(number, 1)
            torch.testing.assert_close(offered[0] if number else mean, normalize(mean, dim=0))
            mean = 0.7 * mean + 0.3 * vectors.mean(dim=0) if number else vectors.mean(dim=0)
    assert len(losses(tmp_path / "whole")) == 6
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert torch.equal(saved(tmp_path / "whole")["memory/centre/mean"], saved(tmp_path / "parts")["memory/centre/mean"])


def test_the_recipe_with_a_momentum_encoder_is_valid(tmp_path: Path) -> None:
    text = (DOCS / "memories.md").read_text("utf-8")
    (block,) = re.findall(r"```yaml\n(# moco.yaml.+?)```", text, re.DOTALL)
    (tmp_path / "moco.yaml").write_text(block, encoding="utf-8")
    terms = load_recipe(str(tmp_path / "moco.yaml")).terms
    assert [term.shares for term in terms] == [{"image": 1, "momentum.text": 0}, {"text": 1, "momentum.image": 0}]


@pytest.mark.parametrize(("name", "objective"), [("local", "self_distillation"), ("several", "multi_teacher")])
def test_the_recipes_that_learn_from_teachers_are_valid(tmp_path: Path, name: str, objective: str) -> None:
    text = (DOCS / "memories.md").read_text("utf-8")
    (block,) = re.findall(rf"```yaml\n(# {name}.yaml.+?)```", text, re.DOTALL)
    (tmp_path / f"{name}.yaml").write_text(block, encoding="utf-8")
    first, second = load_recipe(str(tmp_path / f"{name}.yaml")).terms
    assert (first.objective.name, build_term(first).gathered) == ("infonce", True)
    assert type(build_term(second)).__name__.lower() == objective.replace("_", "")


def test_the_example_that_lists_the_hardest_pictures_runs(
    world_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = recipe(world_folder, tmp_path / "run", steps=6, memories={"cartography": {"term": "image-text"}})
    on_ranks(run, 1, values)
    code = block("memories.md", "hardest.py")
    code = code.replace("shards/train", str(world_folder / "train")).replace("runs/NAME", str(tmp_path / "run"))
    exec(code, {})  # as a reader runs it
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    source = open_source(str(world_folder / "train"))
    column = read_column(tmp_path / "run" / "columns" / "cartography", source.fingerprint)
    sure = dict(zip(column.id_n.tolist(), column.values["confidence"].tolist(), strict=True))
    hardest = sorted(sure, key=lambda id: sure[id])[:10]
    assert [key for _, key, _ in printed] == [source.key(id) for id in hardest]
    assert [confidence for confidence, _, _ in printed] == [f"{sure[id]:.4f}" for id in hardest]


def test_the_example_that_lists_the_highest_temperatures_runs(
    world_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    objective = {"name": "isogclr", "tau": 0.1, "rho": 2.0, "eta": 0.01}
    values = recipe(world_folder, tmp_path / "run", steps=6, pairs={"image-text": 1}, objective=objective)
    on_ranks(run, 1, values)
    code = block("memories.md", "temperatures.py")
    code = code.replace("shards/train", str(world_folder / "train")).replace("runs/NAME", str(tmp_path / "run"))
    exec(code, {})  # as a reader runs it
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    source = open_source(str(world_folder / "train"))
    column = read_column(tmp_path / "run" / "columns" / "term-image-text", source.fingerprint)
    by_key = dict(zip(map(source.key, column.id_n.tolist()), column.values["image.temperature"].tolist(), strict=True))
    assert [value for value, _ in printed] == [f"{by_key[key]:.4f}" for _, key in printed]
    assert [value for value, _ in printed] == [f"{value:.4f}" for value in sorted(by_key.values(), reverse=True)[:10]]
    assert len(set(by_key.values())) > 10
