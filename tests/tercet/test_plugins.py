"""Components from a folder outside the checkout, as docs/plugins.md writes them: trained on two ranks, evaluated."""

import json
import os
import re
from functools import partial
from pathlib import Path

import pytest
import torch

from tercet.command import main
from tercet.distributed import World
from tercet.testing import on_ranks
from tests.tercet.outside import PLUGINS, command, loading
from tests.training.tiny import losses, run, saved


def train(world: World, folder: Path, jobs: list[tuple[list[str], int | None]]) -> None:
    from tercet.plugins import load_plugins
    from tercet.training.recipe import load_recipe

    os.chdir(folder)
    load_plugins(PLUGINS)
    for overrides, stop in jobs:
        run(world, load_recipe("sensor.yaml", overrides).model_dump(mode="json"), stop)


@pytest.fixture(scope="module")
def trained(outside: Path) -> Path:
    """On two ranks: the run in one go, and the same stopped in step 8 and taken up again."""
    whole, parts = (["data.worker=thread", "eval.report=false", f"out={name}"] for name in ("whole", "parts"))
    parts += ["checkpoint.every=7", "data.val=null"]
    on_ranks(train, 2, outside, [(whole, None), (parts, 7), (parts, None)])
    return outside


def test_a_fourth_modality_is_trained_on_two_ranks_and_resumed(trained: Path) -> None:
    whole, parts = saved(trained / "whole"), saved(trained / "parts")
    assert any(name.startswith("optim/exp_avg/towers.series.layers") for name in whole)
    assert [name for name in whole if not torch.equal(whole[name], parts[name])] == []
    assert losses(trained / "whole") == losses(trained / "parts")
    faults = [json.loads(line) for line in (trained / "whole" / "bad_samples.jsonl").read_text().splitlines()]
    assert {(fault["key"], fault["reason"]) for fault in faults} == {("00007", "series: cut short")}


def test_a_fourth_modality_is_evaluated_far_above_chance_from_the_command_line(trained: Path) -> None:
    done = command(trained, "eval", "whole", "retrieval", "sensors.yaml", "--json", *loading(*PLUGINS, "nearer.py"))
    assert done.returncode == 0, done.stderr
    assert "1 sample of val could not be evaluated (1 × series: cut short; the first is 00007" in done.stderr
    retrieval, nearer = json.loads(done.stdout)
    (kept,) = json.loads((trained / "whole" / "eval.json").read_text())
    for direction in ("series→text R@1", "text→series R@1"):
        assert retrieval["metrics"][direction] == pytest.approx(kept["metrics"][direction], abs=0.03)
        assert retrieval["metrics"][direction] > 4 * retrieval["details"][direction]["chance"]
    assert nearer["metrics"]["series→text nearer"] > 0.7
    assert nearer["details"]["series→text nearer"]["n"] == 89


@pytest.mark.parametrize("verb", [["eval"], ["recipes", "show"], ["train"]])
def test_a_run_does_not_resume_without_its_plugins(
    trained: Path, verb: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*verb, str(trained / "whole")]) == 2
    shown = f"{trained}/whole was made with the plugin series.py, which is not loaded; add --plugin {trained}/series.py"
    assert capsys.readouterr() == ("", f"tercet: {shown}\n")


MISTAKES = {
    "import nowhere_at_all": r"line 1: ModuleNotFoundError: No module named 'nowhere_at_all'$",
    "\ndef f(:": r"line 2: SyntaxError: invalid syntax$",
    "def f():\n    return {}['a']\n\nf()": r"line 4: KeyError: 'a'$",
    "from tercet.modality import modality\nmodality('image', 'x')": r"line 2: two modalities are named `image`",
    "from tercet.modality import modality\nmodality('a', 'png')": r"line 2: `.png` already has a decoder",
    "from tercet.modality import decoder\ndecoder('imge', 'x')": r"unknown modality `imge`; did you mean `image`",
    "from tercet.training.engines.optimizers import optimizers\noptimizers.register('adamw')(id)": r"two optimizers",
}


@pytest.mark.parametrize("verb", ["train", "eval", "embed", "recipes new", "recipes check", "data pack", "data leaks"])
def test_commands_that_read_recipes_models_or_data_take_plugins(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*verb.split(), "--help"])
    assert "--plugin FILE.py" in capsys.readouterr().out


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_in_a_plugin_is_an_error_of_one_line(
    outside: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = outside / "mistaken.py"
    file.write_text(text)
    assert main(["recipes", "show", "demo", *loading(str(file))]) == 2
    out, shown = capsys.readouterr()
    assert (out, len(shown.splitlines())) == ("", 1)
    assert shown.startswith(f"tercet: plugin {file}, line")
    assert re.search(MISTAKES[text], shown.strip())


def test_the_error_for_an_unknown_modality_suggests_a_plugin(outside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "show", str(outside / "sensor.yaml")]) == 2
    known = "known: audio, dim, image, text (--plugin FILE.py can add one)"
    shown = f"tercet: sensor.yaml: `model.series` is not a known modality; {known}\n"
    assert capsys.readouterr() == ("", shown)


def test_installed_plugins_are_loaded_without_an_option(outside: Path, tmp_path: Path) -> None:
    text = "from tercet.modality import modality\n\nmodality('series', 'f32')(lambda data, intake, view: None)\n"
    (tmp_path / "sensors_of_mine.py").write_text(text)
    facts = tmp_path / "sensors_of_mine-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: sensors-of-mine\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[tercet.plugins]\nsensors = sensors_of_mine\n")
    check = partial(command, outside, "recipes", "check", "sensor.yaml")
    assert (check().returncode, check(path=str(tmp_path)).returncode) == (2, 0)
