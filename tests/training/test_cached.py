"""A run on the stored features of locked towers is the run with these towers, and wrong features are refused."""

import json
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from tercet.api.features import embed_features
from tercet.command import main
from tercet.configs.base import build
from tercet.configs.yaml_text import write_yaml
from tercet.data_pipelines.columns import column_files
from tercet.data_pipelines.features import FeatureManifest
from tercet.data_pipelines.shards.read import Shards
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.distributed import World
from tercet.errors import UserError
from tercet.eval.embedding import write_features
from tercet.models.interop.folder import export_folder
from tercet.models.multimodal import build_model
from tercet.testing import on_ranks
from tercet.training.config import RunConfig
from tercet.training.folder import open_folder
from tercet.training.preflight.checks import counted, dry_run
from tercet.training.recipe import load_recipe
from tercet.training.runner import Runner
from tests.training.test_resume import run_all
from tests.training.tiny import MODEL, assert_same_run, losses, recipe, run, saved

STEPS = 5
LOCKED = {"lit": ("image", "audio"), "all": ("image", "audio", "text")}  # only captions are decoded; nothing is


def locked(kind: str, folder: Path | None = None) -> dict[str, Any]:
    model: dict[str, Any] = deepcopy(MODEL)
    for name in LOCKED[kind]:
        model[name] |= {"unlocked": 0} | ({"cached": str(folder)} if folder else {})
    return model


@pytest.fixture(scope="module")
def features(world_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The features of the locked towers of each recipe, in files of forty samples."""
    out = tmp_path_factory.mktemp("cached")
    for kind in LOCKED:
        (out / f"{kind}.yaml").write_text(write_yaml(recipe(world_folder, out / "run", model=locked(kind))))
        with patch.object(write_features, "SAMPLES", 40):
            embed_features(out / f"{kind}.yaml", None, out / kind)
    return out


@pytest.mark.parametrize(("kind", "world"), [("lit", 1), ("all", 2)])
def test_a_cached_run_is_the_live_run_and_resumes(
    kind: str, world: int, world_folder: Path, features: Path, tmp_path: Path
) -> None:
    data = recipe(world_folder, tmp_path)["data"] | ({"val": str(world_folder / "val")} if world == 1 else {})
    options = {"steps": STEPS, "zero": 2, "eval": {"report": False}, "data": data, "checkpoint": {"every": 2}}
    live = recipe(world_folder, tmp_path / "live", model=locked(kind), **options)
    cached, parts = (
        recipe(world_folder, tmp_path / name, model=locked(kind, features / kind), **options)
        for name in ("cached", "parts")
    )
    on_ranks(run_all, world, [(live, None), (cached, None), (parts, 3), (parts, None)])
    assert losses(tmp_path / "cached") == pytest.approx(losses(tmp_path / "live"), rel=1e-6)
    one, other = saved(tmp_path / "live"), assert_same_run(tmp_path / "cached", tmp_path / "parts")
    assert one.keys() == other.keys()
    for path in one:
        torch.testing.assert_close(other[path], one[path], rtol=1e-6, atol=1e-6, msg=path)
    config = RunConfig.model_validate(live)
    begun = build_model(config.model, config.terms, config.seed).state_dict()
    trained = {path.split(".")[1] for path, value in begun.items() if not torch.equal(other[f"weight/{path}"], value)}
    assert trained == {"projections", "temperatures", *MODEL} - {"dim", *LOCKED[kind]}
    if world == 1:  # evaluation runs the locked towers on pictures and sounds
        found = [json.loads((tmp_path / name / "eval.json").read_text()) for name in ("live", "cached")]
        assert [one["metrics"] for one in found[0]] == [one["metrics"] for one in found[1]]
        assert load_recipe(str(tmp_path / "cached")).model.cached == dict.fromkeys(LOCKED[kind], str(features / kind))


def refusal(values: dict[str, Any]) -> str:
    with pytest.raises(UserError) as refused:
        run(World(), build(RunConfig, values, lambda key: "recipe").model_dump(mode="json"))
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_wrong_features_are_refused_in_one_line(world_folder: Path, features: Path, tmp_path: Path) -> None:
    def changed(folder: Path, kind: str = "all", **changes: Any) -> dict[str, Any]:
        return recipe(world_folder, tmp_path / "run", **{"steps": 1, "model": locked(kind, folder)} | changes)

    all_of, shards = features / "all", str(world_folder / "train")
    embed = f"embed it: tercet embed {features}/all.yaml --data"
    assert refusal(changed(tmp_path)) == (
        f"model.image.cached: {tmp_path} has no features.json; write it: tercet embed RECIPE --format features --out "
        f"{tmp_path}"
    )
    assert refusal(changed(features / "lit")) == (
        f"model.text.cached: {features}/lit has no features of text; known: audio, image"
    )
    assert refusal(changed(all_of, seed=1)).startswith(
        f"model.image.cached: {all_of} has the outputs of another image tower, that of {features}/all.yaml; embed the "
    )
    other = {"train": {"source": shards, "part": [0.25, 1], "group": "json.scene"}, "crop": None}
    message = f"model.image.cached: {all_of} has no features of {shards} as this run reads it; {embed} {shards} "
    assert refusal(changed(all_of, data=other)) == (
        f"{message}part=[0.25,1.0] group=json.scene --format features --out {all_of}"
    )
    with pytest.raises(UserError, match="as this run reads it; embed it: tercet embed"):
        dry_run(build(RunConfig, changed(all_of, data=other), lambda key: "recipe"))
    broken = tmp_path / "broken"
    shutil.copytree(all_of, broken)
    (fingerprint,) = (path.name for path in broken.iterdir() if path.is_dir())
    column_files(broken, fingerprint)[0].unlink()
    assert refusal(changed(broken)) == (
        f"model.image.cached: {broken} has the features of 56 samples of {shards}, not of 96, so files are missing; "
        f"{embed} {shards} --format features --out {broken}"
    )
    tokens = {"pairs": {}, "terms": [{"between": ["image", "text"], "objective": "sequence"}]}
    assert "model.image.cached: a term compares the tokens of `image`" in refusal(changed(all_of, **tokens))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data": {"train": "d", "mode": "stream"}},
            "is read by sample ids, which a stream lacks",
        ),
        ({"data": {"train": "d", "augment": {"image": {"flip": 0.5}}}}, "remove `data.augment.image`, or `cached`"),
        ({"data": {"train": {"source": "d", "sound_pairs": {}}}}, "remove `data.train.train.sound_pairs`, or `cached`"),
        ({"data": {"train": {"source": "d", "captions": {"txt": 1, "json.more": 1}}}}, "the captions of one place"),
        ({"selection": {"name": "loss", "filter_ratio": 0.5, "scoring": {"size": 16}}}, "no pictures to make smaller"),
        ({"model": MODEL | {"image": MODEL["image"] | {"cached": "f"}}}, "set `unlocked: 0`, or remove `cached`"),
    ],
)
def test_a_recipe_that_needs_pictures_is_refused(changes: dict[str, Any], message: str) -> None:
    values = recipe(Path("d"), Path("run"), model=locked("all", Path("f"))) | changes
    with pytest.raises(UserError) as refused:
        build(RunConfig, values, lambda key: "recipe")
    assert message in str(refused.value)


def test_nothing_of_the_shards_is_read_if_all_towers_are_cached(
    world_folder: Path, features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Shards, "read", lambda *_: pytest.fail("samples were read"))
    run(World(), recipe(world_folder, tmp_path / "run", steps=2, model=locked("all", features / "all")))
    assert len(losses(tmp_path / "run")) == 2


def test_a_later_stage_may_unlock_a_cached_tower(world_folder: Path, features: Path, tmp_path: Path) -> None:
    change = {"model.image.cached": None, "model.image.unlocked": 1}
    stages = [{"name": "locked", "steps": 1}, {"name": "unlocked", "steps": 1, "set": change}]
    values = recipe(
        world_folder, tmp_path / "run", model=locked("lit", features / "lit"), stages=stages, steps=2, ema=None
    )
    run(World(), values)
    config = RunConfig.model_validate(values)
    begun, ended = build_model(config.model, config.terms, config.seed).state_dict(), saved(tmp_path / "run")
    trained = [path for path, value in begun.items() if not torch.equal(ended[f"weight/{path}"], value)]
    assert any(path.startswith("towers.image.") for path in trained)
    assert not any(path.startswith("towers.audio.") for path in trained)


def test_the_command_embeds_a_model_and_continues(
    world_folder: Path, features: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What an interrupted command has written stays, and the same folder takes other data, but no other towers."""
    shutil.copytree(features / "all", tmp_path / "all")
    (fingerprint,) = (path.name for path in (tmp_path / "all").iterdir() if path.is_dir())
    first, second, _ = column_files(tmp_path / "all", fingerprint)
    content, time = second.read_bytes(), first.stat().st_mtime_ns
    second.unlink()
    command = ["embed", str(features / "all.yaml"), "--format", "features", "--out", str(tmp_path / "all")]
    with patch.object(write_features, "SAMPLES", 40):
        assert main(command) == 0
        assert main([*command, "--data", str(world_folder / "val"), "group=json.scene"]) == 0
    assert (second.read_bytes(), first.stat().st_mtime_ns) == (content, time)
    assert "train: 96 of 96 samples, image, audio, text" in capsys.readouterr().out.replace("\n", " ").replace(
        "  ", " "
    )
    manifest = FeatureManifest.read(tmp_path / "all", "key")
    assert sorted((one.samples, one.reading["group"]) for one in manifest.sources.values()) == [
        (40, "json.scene"),
        (96, "json.group"),
    ]
    config = RunConfig.model_validate(recipe(world_folder, tmp_path, seed=3))
    other = str(export_folder(build_model(config.model, config.terms, 3), config, tmp_path / "model"))
    assert main(["embed", other, "--data", str(world_folder / "val"), *command[2:]]) == 2
    assert f"has the features of other towers, those of {features}/all.yaml" in capsys.readouterr().err
    own = str(export_folder(build_model(config.model, config.terms, 0), config, tmp_path / "own"))
    assert main(["embed", own, "--data", str(world_folder / "val"), *command[2:]]) == 0
    assert main(["embed", own, *command[2:]]) == 2
    assert "name the data to embed: --data D; only a recipe has data of its own" in capsys.readouterr().err


def small(name: str, kept: set[str], world_folder: Path, out: Path) -> list[str]:
    """Overrides for two steps of a recipe, with the towers of tests and these keys of its own towers."""
    model = load_recipe(name).model.towers
    towers = {one: tower.model_dump(include=kept, exclude_none=True) for one, tower in model.items()}
    overrides = [f"out={out}", f"data.train={world_folder / 'train'}", f"data.val={world_folder / 'val'}"]
    overrides += ["batch_size=16", "epochs=0.3", "precision=fp32", "model.dim=16", "data.workers=0", "log.to=[]"]
    overrides += ["eval.tasks=[]", "early_stopping=null", f"model={json.dumps(dict.fromkeys(towers))}"]
    return overrides + [f"model.{one}={json.dumps(MODEL[one] | tower)}" for one, tower in towers.items()]


def trained_by(name: str, overrides: list[str]) -> set[str]:
    """The modules whose weights a run changes."""
    config = counted(load_recipe(name, overrides), World(), OpenedSources())
    with open_folder(config, World()) as folder:
        Runner(config, folder, World()).finish()
    begun, ended = build_model(config.model, config.terms, config.seed).state_dict(), saved(Path(config.out))
    return {path.rpartition(".")[0] for path, value in begun.items() if not ended[f"weight/{path}"].equal(value)}


@pytest.mark.parametrize("name", ["lit", "ebind"])
def test_a_recipe_takes_two_steps_on_its_own_features(name: str, world_folder: Path, tmp_path: Path) -> None:
    """Only `lit` reads captions; neither reads pictures. Of locked towers with an MLP, only the MLP is trained."""
    cached = load_recipe(name).model.cached
    overrides = small(name, {"unlocked", "cached", "projection"}, world_folder, tmp_path / "run")
    embed_features(name, None, tmp_path / "features", overrides)
    trained = trained_by(name, [*overrides, *(f"model.{one}.cached={tmp_path / 'features'}" for one in cached)])
    assert not any(path.startswith(f"towers.{one}") for path in trained for one in cached)
    if name == "ebind":
        mlps = [path.split(".")[2] for path in trained if path.startswith("head.projections.")]
        assert all(mlps.count(one) >= 2 for one in cached), "every layer of every MLP"
        assert {path.split(".")[1] for path in trained} == {"projections", "temperatures"}
        manifest = FeatureManifest.read(tmp_path / "features", "key")
        assert [one.values for one in manifest.sources.values()] == [{"relevance": "json.relevance"}]
    assert len(losses(tmp_path / "run")) == 2


@pytest.mark.long
@pytest.mark.parametrize("name", ["lit", "ebind"])
def test_without_its_locks_a_recipe_trains_every_tower(name: str, world_folder: Path, tmp_path: Path) -> None:
    overrides = small(name, {"projection"}, world_folder, tmp_path / "run")
    trained = trained_by(name, overrides)
    for one in load_recipe(name).model.cached:
        assert any(path.startswith(f"towers.{one}") for path in trained), one
