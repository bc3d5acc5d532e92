"""The recipes for fine-tuning, made small, each from the weights of another run; updates over the ZeRO stages."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.distributed import World
from tercet.models.multimodal import build_model
from tercet.testing import on_ranks
from tercet.training.folder import open_folder
from tercet.training.preflight.checks import counted
from tercet.training.preflight.complete import inherited
from tercet.training.pretrained import load_model
from tercet.training.recipe import load_recipe
from tercet.training.runner import Runner
from tests.training.test_finetuning import DEEP, IMAGE, LORA, Job, moved, pairs
from tests.training.tiny import MODEL, TOWER, losses, run, saved

pytestmark = pytest.mark.long
SOUNDS = {"dim": 16, "text": MODEL["text"], "audio": MODEL["audio"]}
TEXT = {"encoder": "small:text", "options": TOWER}
LIT = ["model.image=null", "model.text=null", f"model.image={json.dumps(IMAGE | {'unlocked': 0})}"]


def tiny(data: Path, out: Path, *overrides: str) -> list[str]:
    """What makes a recipe as small as these tests are: three steps of it."""
    small = [
        "epochs=0.5",
        "batch_size=16",
        "precision=fp32",
        "log.to=[]",
        "data.workers=0",
        "early_stopping=null",
        f"out={out}",
    ]
    return [*small, f"data.train={data / 'train'}", f"data.val={data / 'val'}", *overrides]


def run_all(world: World, jobs: list[Job], recipes: dict[str, list[str]]) -> None:
    for values, stop in jobs:
        run(world, values, stop)
    for name, overrides in recipes.items():
        config = counted(inherited(load_recipe(name, overrides)), world, OpenedSources())
        with open_folder(config, world) as folder:
            Runner(config, folder, world).finish()


@pytest.fixture(scope="module")
def runs(world_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    jobs: list[Job] = [(pairs(world_folder, out / f"lora{zero}", model=LORA, zero=zero), None) for zero in (0, 1, 2)]
    jobs += [(pairs(world_folder, out / "pictures", model=DEEP, steps=2), None)]
    jobs += [(pairs(world_folder, out / "sounds", model=SOUNDS, steps=2, pairs={"audio-text": 1.0}), None)]
    starts = {"finetune_clip": "pictures", "finetune_lora": "lora1", "finetune_clap": "sounds"}
    recipes = {name: tiny(world_folder, out / name, f"init={out / start}") for name, start in starts.items()}
    lit = [*LIT, f"model.text={json.dumps(TEXT)}", "model.dim=16"]
    on_ranks(run_all, 2, jobs, recipes | {"finetune_lit": tiny(world_folder, out / "finetune_lit", *lit)})
    return out


def test_lora_gives_the_same_losses_at_every_zero_stage(runs: Path) -> None:
    whole = losses(runs / "lora1")
    assert whole[0] != pytest.approx(whole[-1], rel=1e-3), "nothing was learned, so nothing was compared"
    assert losses(runs / "lora0") == pytest.approx(whole, rel=1e-5)
    assert losses(runs / "lora2") == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "start", "still"),
    [
        ("finetune_clip", "pictures", ()),
        ("finetune_clap", "sounds", ()),
        ("finetune_lora", "lora1", ("towers.image.", "towers.text.")),
    ],
)
def test_a_finetuning_recipe_starts_from_the_given_weights(
    runs: Path, name: str, start: str, still: tuple[str, ...]
) -> None:
    """What it began with is the other run, merged; the updates of low rank alone move a tower that is adapted."""
    begun, other = load_file(runs / name / "start.safetensors"), load_model(str(runs / start)).state_dict()
    assert begun.keys() == other.keys()
    assert not moved(begun, other)
    assert len(losses(runs / name)) == 3
    ended = {path.removeprefix("weight/"): value for path, value in saved(runs / name).items() if "weight/" in path}
    frozen = [path for path in ended if path.startswith(still) and "lora_" not in path] if still else []
    assert all(ended[path].equal(begun[path.replace(".base_layer", "")]) for path in frozen)
    assert bool(frozen) == bool(still)
    assert moved(begun, load_model(str(runs / name)).state_dict())
    found = json.loads((runs / name / "eval.json").read_text())
    assert list(found[0]["wise_ft"]["metrics"]) == ["0", "0.25", "0.5", "0.75", "1"]


def test_a_locked_image_tower_does_not_change(runs: Path) -> None:
    config, ended = load_recipe(str(runs / "finetune_lit")), saved(runs / "finetune_lit")
    fresh = build_model(config.model, config.terms, config.seed).state_dict()
    changed = {path for path, value in fresh.items() if not ended[f"weight/{path}"].equal(value)}
    assert not any(path.startswith("towers.image.") for path in changed)
    assert {path for path in fresh if path.startswith(("towers.text.trunk.", "head."))} <= changed
