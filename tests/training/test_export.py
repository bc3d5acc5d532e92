"""A trained run, exported: the same vectors, from the weights that were asked for, and nothing of the run is needed."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import tercet
from tercet.command import main
from tercet.distributed import World
from tercet.errors import UserError
from tests.training.tiny import recipe, run, saved

TEXTS = ["a red circle", "two green squares"]


@pytest.fixture(scope="module")
def trained(world_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with low-rank updates of the text tower, and averaged weights."""
    out = tmp_path_factory.mktemp("runs") / "trained"
    model = recipe(world_folder, out)["model"]
    model = {**model, "text": {**model["text"], "lora": {"rank": 2, "alpha": 20.0}}}
    data = {"train": str(world_folder / "train"), "val": str(world_folder / "val"), "crop": None, "worker": "thread"}
    pairs, quiet = {"image-text": 1.0, "audio-text": 1.0}, {"report": False}
    run(World(), recipe(world_folder, out, steps=3, data=data, model=model, pairs=pairs, eval=quiet))
    return out


def test_the_usual_format_holds_the_averaged_weights_without_updates(trained: Path, tmp_path: Path) -> None:
    done = tercet.export(trained, tmp_path / "out")
    assert done.files.keys() >= {"config.yaml", "model.safetensors"}
    assert done.files["model.safetensors"] == (tmp_path / "out/model.safetensors").stat().st_size
    assert (done.left_out, [path.name for path in tmp_path.iterdir()]) == ((), ["out"])
    whole, again = tercet.load(str(trained), "cpu"), tercet.load(str(tmp_path / "out"), "cpu")
    assert torch.equal(whole.embed(text=TEXTS).text, again.embed(text=TEXTS).text)
    kept, tensors = load_file(tmp_path / "out/model.safetensors"), saved(trained)
    assert not any("lora" in name for name in kept)
    assert torch.equal(kept["towers.text.words"], tensors["weight/towers.text.words"])  # frozen
    layer = "towers.text.trunk.layers.0.qkv"
    low, high = (tensors[f"memory/ema/{layer}.lora_{part}.default.weight"] for part in "AB")
    assert high.abs().max() > 0
    expected = tensors[f"weight/{layer}.base_layer.weight"].double() + 10 * high.double() @ low.double()
    torch.testing.assert_close(kept[f"{layer}.weight"].double(), expected, rtol=0, atol=1e-6)


def test_the_command_writes_the_weights_of_the_last_step(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(trained), str(tmp_path / "last"), "--not-averaged", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["model"], printed["format"], printed["left_out"]) == (str(trained), "safetensors", [])
    kept, tensors = load_file(tmp_path / "last/model.safetensors"), saved(trained)
    assert torch.equal(kept["towers.image.positions"], tensors["weight/towers.image.positions"])
    assert not torch.equal(kept["towers.image.positions"], tensors["memory/ema/towers.image.positions"])


def test_a_loaded_model_is_exported_with_the_weights_that_it_has(trained: Path, tmp_path: Path) -> None:
    model = tercet.load(str(trained), "cpu")
    with torch.no_grad():
        model.towers.head.projections["image"].weight.mul_(2)  # type: ignore[operator]
    tercet.export(model, tmp_path / "out")
    kept = load_file(tmp_path / "out/model.safetensors")["head.projections.image.weight"]
    assert torch.equal(kept, 2 * saved(trained)["memory/ema/head.projections.image.weight"])
    with pytest.raises(UserError, match=r"\(5 dimensions\): an export has whole vectors; load the model without dims"):
        tercet.export(tercet.load(str(trained), "cpu", dims=5), tmp_path / "cut")
    with pytest.raises(UserError, match=r"chooses the weights of a run, but .* is loaded; give its path"):
        tercet.export(model, tmp_path / "cut", averaged=False)


def test_mistakes_are_reported_in_one_line_before_anything_is_written(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError, match="unknown format `safetensor`; did you mean `safetensors`"):
        tercet.export(trained, out, "safetensor")
    with pytest.raises(UserError, match="format safetensors: unknown key `fp16`"):
        tercet.export(trained, out, fp16=True)
    with pytest.raises(UserError, match="names 2 models; name one"):
        tercet.export(f"{trained}+{trained}", out)
    with pytest.raises(UserError, match="format open_clip cannot hold model"):
        tercet.export(trained, out, "open_clip")
    assert not [*tmp_path.iterdir()]
    exported = tercet.export(trained, out).folder
    assert len({path.stat().st_mode for path in exported.iterdir()}) == 1  # all are as readable as the card
    with pytest.raises(UserError, match="exists and is not an empty folder; name a new folder"):
        tercet.export(trained, out)
    with pytest.raises(UserError, match="only a run keeps weights beside their averages"):
        tercet.export(exported, tmp_path / "again", averaged=False)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
