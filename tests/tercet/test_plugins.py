"""Components from a folder outside the checkout, as docs/plugins.md writes them: trained on two ranks, evaluated."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tercet.command import main
from tercet.data_pipelines.keyed import keyed
from tercet.distributed import World
from tercet.testing import on_ranks
from tests.training.tiny import losses, run, saved

DOCS = Path(__file__).parents[2] / "docs" / "plugins.md"
SPEEDS, AXES, HEIGHTS = {"slow": 1, "brisk": 3, "fast": 7}, ("first", "second", "third"), {"faint": 0.3, "strong": 1.5}
PLUGINS = ("series.py", "my_loss.py")


def written(folder: Path) -> None:
    """Every block of the page whose first line names its file, as it stands there."""
    for block in re.findall(r"```(?:python|yaml)\n(.+?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL):
        name = re.match(r"# ([\w.]+)", block)
        assert name is not None, block
        (folder / name[1]).write_text(block, encoding="utf-8")


def swing(draw: np.random.Generator) -> dict[str, bytes]:
    """A noisy wave about one axis, and what is to be said of it."""
    speed, height, axis = draw.choice(list(SPEEDS)), draw.choice(list(HEIGHTS)), draw.integers(3)
    time = np.arange(draw.integers(40, 80))
    series = draw.normal(0, 0.1, (len(time), 3))
    series[:, axis] += HEIGHTS[height] * np.sin(2 * np.pi * SPEEDS[speed] * time / 40 + draw.uniform(0, 6))
    caption = f"a {height} {speed} swing about the {AXES[axis]} axis"
    meta = {"group": caption, "steps": len(time)}
    return {"f32": series.astype("<f4").tobytes(), "txt": caption.encode(), "json": json.dumps(meta).encode()}


def shard(path: Path, samples: Iterator[dict[str, bytes]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number, files in enumerate(samples):
            for extension, data in files.items():
                member = tarfile.TarInfo(f"{number:05d}.{extension}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's files and recipe, and shards in which one series of each split is cut short."""
    folder = tmp_path_factory.mktemp("outside")
    written(folder)
    for seed, (split, count) in enumerate({"train": 400, "val": 90}.items()):
        draw = np.random.default_rng(seed)
        samples = [swing(draw) for _ in range(count)]
        samples[7]["f32"] += b"\0\0"
        shard(folder / "shards" / split / "000.tar", iter(samples))
    return folder


def command(folder: Path, *words: str, path: str = "") -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    whole = [sys.executable, "-m", "tercet", *words]
    return subprocess.run(whole, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def loading(*plugins: str) -> list[str]:
    return [word for plugin in plugins for word in ("--plugin", plugin)]


def train(world: World, folder: Path, jobs: list[tuple[list[str], int | None]]) -> None:
    from tercet.configs.recipe import load_recipe
    from tercet.plugins import load_plugins

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
    assert any(name.startswith("exp_avg/towers.series.layers") for name in whole)
    assert [name for name in whole if not torch.equal(whole[name], parts[name])] == []
    assert losses(trained / "whole") == losses(trained / "parts")
    faults = [json.loads(line) for line in (trained / "whole" / "bad_samples.jsonl").read_text().splitlines()]
    assert {(fault["key"], fault["reason"]) for fault in faults} == {("00007", "series: cut short")}


def test_it_is_evaluated_far_above_chance_from_the_command_line(trained: Path) -> None:
    done = command(trained, "eval", "whole", "retrieval", "sensors.yaml", "--json", *loading(*PLUGINS, "nearer.py"))
    assert done.returncode == 0, done.stderr
    assert "1 samples of val are not in its numbers (1 × series: cut short; the first is 00007" in done.stderr
    retrieval, nearer = json.loads(done.stdout)
    (kept,) = json.loads((trained / "whole" / "eval.json").read_text())
    for direction in ("series→text R@1", "text→series R@1"):
        assert retrieval["metrics"][direction] == pytest.approx(kept["metrics"][direction], abs=0.03)
        assert retrieval["metrics"][direction] > 4 * retrieval["details"][direction]["chance"]
    assert nearer["metrics"]["series→text nearer"] > 0.7
    assert nearer["details"]["series→text nearer"]["n"] == 89


@pytest.mark.parametrize("verb", [["eval"], ["recipes", "show"], ["train"]])
def test_a_run_does_not_go_on_without_its_plugins(
    trained: Path, verb: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*verb, str(trained / "whole")]) == 2
    said = f"{trained}/whole was made with the plugin series.py, which is not loaded; add --plugin {trained}/series.py"
    assert capsys.readouterr() == ("", f"tercet: {said}\n")


MISTAKES = {
    "import nowhere_at_all": r"line 1: ModuleNotFoundError: No module named 'nowhere_at_all'$",
    "\ndef f(:": r"line 2: SyntaxError: invalid syntax$",
    "def f():\n    return {}['a']\n\nf()": r"line 4: KeyError: 'a'$",
    "from tercet.modality import modality\nmodality('image', 'x')": r"line 2: two modalities are named `image`",
    "from tercet.modality import modality\nmodality('a', 'png')": r"line 2: `.png` is decoded already",
    "from tercet.modality import decoder\ndecoder('imge', 'x')": r"unknown modality `imge`; did you mean `image`",
    "from tercet.training.optimizers import optimizers\noptimizers.register('adamw')(id)": r"two optimizers are named",
}


@pytest.mark.parametrize("verb", ["train", "eval", "embed", "recipes new", "recipes check", "data pack", "data leaks"])
def test_what_reads_recipes_models_or_data_takes_plugins(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*verb.split(), "--help"])
    assert "--plugin FILE.py" in capsys.readouterr().out


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_in_a_plugin_is_one_line(outside: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = outside / "mistaken.py"
    file.write_text(text)
    assert main(["recipes", "show", "demo", *loading(str(file))]) == 2
    out, said = capsys.readouterr()
    assert (out, len(said.splitlines())) == ("", 1)
    assert said.startswith(f"tercet: plugin {file}, line")
    assert re.search(MISTAKES[text], said.strip())


def test_an_unknown_modality_may_be_that_of_a_plugin(outside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "show", str(outside / "sensor.yaml")]) == 2
    known = "known: audio, dim, image, text (--plugin FILE.py may bring more)"
    said = f"tercet: sensor.yaml: `model.series` is of no known modality; {known}\n"
    assert capsys.readouterr() == ("", said)


def test_installed_plugins_need_no_naming(outside: Path, tmp_path: Path) -> None:
    text = "from tercet.modality import modality\n\nmodality('series', 'f32')(lambda data, intake, view: None)\n"
    (tmp_path / "sensors_of_mine.py").write_text(text)
    facts = tmp_path / "sensors_of_mine-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: sensors-of-mine\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[tercet.plugins]\nsensors = sensors_of_mine\n")
    check = partial(command, outside, "recipes", "check", "sensor.yaml")
    assert (check().returncode, check(path=str(tmp_path)).returncode) == (2, 0)


def looked_at(world: World, folder: Path) -> dict[str, Any]:
    """What the page's other components make of data, beside what they should, in a process that loads them."""
    from tercet.plugins import load_plugins

    os.chdir(folder)
    load_plugins(folder / name for name in (*PLUGINS, "netpbm.py", "louder.py", "nearer.py", "momentum.py"))
    return {"focal": focal(world), "picture": picture(), "louder": louder(folder), "nearer": nearer()} | momentum()


@pytest.fixture(scope="module")
def seen(outside: Path) -> dict[str, Any]:
    (result,) = on_ranks(looked_at, 1, outside)
    return result  # type: ignore[no-any-return]


def focal(world: World) -> tuple[float, float]:
    """The loss of 24 pairs, and the sum written out over whole matrices."""
    from tercet.data_pipelines.sample import Batch, Field
    from tercet.models.config import TermConfig
    from tercet.models.losses.terms import Terms

    count, draw = 24, torch.Generator().manual_seed(0)
    x, y = (torch.nn.functional.normalize(torch.randn(count, 8, generator=draw), dim=1) for _ in "xy")
    fields = {name: Field(name, torch.zeros(count, 1), torch.arange(count)) for name in ("image", "text")}
    batch = Batch(torch.arange(count), torch.arange(count), fields)
    term = TermConfig.model_validate({"between": ["image", "text"], "objective": {"name": "focal_nce", "gamma": 3}})
    outcome = Terms([term], tile=7)(batch, {"image": x, "text": y}, {"image-text": (torch.tensor([5.0]), None)}, world)
    total = 0.0
    for logits in (5 * x @ y.T, 5 * y @ x.T):
        likely = logits.softmax(dim=1).diagonal()
        total += float(((1 - likely) ** 3 * -likely.log()).sum()) / (2 * count)
    return float(outcome.loss), total


def picture() -> tuple[Any, Any]:
    """A PPM beside the PNG of the same pixels, cropped alike."""
    from tercet.data_pipelines.config import SplitConfig
    from tercet.data_pipelines.decode.item import FileDecoder
    from tercet.data_pipelines.sample import ImageIntake, Sample
    from tercet.data_pipelines.transforms.crop import random_views

    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    decode = FileDecoder({"image": ImageIntake((12, 12))}, SplitConfig(source="here"))
    (view,) = random_views("train", 0, [0], [0], (0.2, 0.5))
    found = []
    for extension, kind in (("ppm", "PPM"), ("png", "PNG")):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, kind)
        sample = decode.sample("a", 0, {extension: file.getvalue()}, view)
        assert isinstance(sample, Sample)
        found.append(sample.image)
    return found[0], found[1]


def louder(folder: Path) -> list[tuple[float, float, float]]:
    """Of each row of a batch that a process decodes: by what a transform has changed it, least and most, and by what it
    should have."""
    from tercet.data_pipelines.config import DataConfig
    from tercet.data_pipelines.keyed import keys
    from tercet.data_pipelines.loader import Loader
    from tercet.data_pipelines.sample import ArrayIntake
    from tercet.data_pipelines.shards.read import open_shards

    source = open_shards(str(folder / "shards" / "train"))
    batches = []
    for further in ({}, {"series": [{"name": "louder", "least": 0.8}]}):
        data = DataConfig.model_validate({"train": "here", "workers": 1, "augment": {"further": further}})
        loader = Loader(data, {"train": source}, {"series": ArrayIntake((50, 3), ragged=True)}, 16, seed=3)
        batches.append(next(iter(loader)))
    plain, changed = (batch.fields["series"] for batch in batches)
    assert torch.equal(plain.lengths, changed.lengths)
    key = keys("augment train", 3, np.zeros(16), batches[0].ids.numpy()).tolist()
    ratio = [changed.values[row, :length] / plain.values[row, :length] for row, length in enumerate(plain.lengths)]
    wanted = [keyed("series 0", one).uniform(0.8, 2.0) for one in key]
    assert plain.values.shape == (16, 50, 3)
    return [(float(each.min()), float(each.max()), want) for each, want in zip(ratio, wanted, strict=True)]


def nearer() -> tuple[float, float]:
    """The task's value on random vectors, and the same by a loop."""
    from tercet.data_pipelines.sample import Sample
    from tercet.eval.config import EvalConfig
    from tercet.eval.embed import EmbeddingTable
    from tercet.eval.task import load_task

    draw, item = torch.Generator().manual_seed(0), torch.arange(30)
    vectors = {name: torch.randn(30, 4, generator=draw) for name in ("series", "text")}
    samples = tuple(Sample(str(number), number, number) for number in range(30))
    table = EmbeddingTable(vectors, dict.fromkeys(vectors, item), samples)
    (measure,) = load_task("sensors.yaml").measure(table, None, EvalConfig())  # type: ignore[union-attr, arg-type]
    x, y = vectors["series"].tolist(), vectors["text"].tolist()
    dot = [[sum(a * b for a, b in zip(x[i], y[j], strict=True)) for j in (i, i - 1)] for i in range(30)]
    return measure.value("nearer"), sum(own > other for own, other in dot) / 30


def momentum() -> dict[str, Any]:
    from tercet.training.config import OptimizerConfig
    from tercet.training.optimizers import optimizers

    weight = torch.nn.Parameter(torch.ones(2))
    config = OptimizerConfig(name="momentum", lr=0.1, betas=(0.5, 0.9))
    optimizer = optimizers.get("momentum")([{"params": [weight]}], config)
    for _ in range(2):
        weight.grad = torch.ones(2)
        optimizer.step()
    return {"weight": weight.detach()}


def test_a_loss_of_a_few_lines_is_what_it_says(seen: dict[str, Any]) -> None:
    assert seen["focal"][0] == pytest.approx(seen["focal"][1], rel=1e-5)


def test_a_decoder_reads_further_files_of_a_modality(seen: dict[str, Any]) -> None:
    assert seen["picture"][0].shape == (12, 12, 3)
    assert np.array_equal(*seen["picture"])


def test_a_transform_draws_by_the_sample(seen: dict[str, Any]) -> None:
    for least, most, wanted in seen["louder"]:
        assert least == pytest.approx(wanted, rel=1e-3)
        assert most == pytest.approx(wanted, rel=1e-3)
    assert len({wanted for _, _, wanted in seen["louder"]}) == 16


def test_files_that_a_plugin_decodes_are_counted_and_packed_as_they_are(outside: Path) -> None:
    """None of them is called broken for being no JPEG."""
    folder = outside / "netpbm"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (20, 30), (80 * number, 0, 0)).save(folder / f"{number}.ppm")
    rows = [f"{number}.ppm,a caption of number {number}\n" for number in range(3)]
    (folder / "table.csv").write_text("".join(["image,caption\n", *rows]))
    verb = partial(command, outside, "data")
    options = ["netpbm/table.csv", "--workers", "1", *loading("netpbm.py")]
    check, stats = (verb(name, *options, "--json") for name in ("check", "stats"))
    assert (check.returncode, json.loads(check.stdout)["bad"]) == (0, 0)
    counts = json.loads(stats.stdout)["counts"]
    assert (counts["files"]["ppm"], "bad" in counts) == (3, False)
    shutil.copy(folder / "1.ppm", folder / "again.ppm")
    (folder / "again.csv").write_text("image,caption\nagain.ppm,something else\n")
    leaks = verb("leaks", "netpbm/again.csv", *options, "--json")
    found = json.loads(leaks.stdout)
    assert (found["leaks"], found["bad"]) == ({"image: same file": {"pairs": 1, "eval_samples": 1}}, {})
    packed = verb("pack", *options, "--out", "netpbm/packed")
    assert packed.returncode == 0, packed.stderr
    with tarfile.open(next((folder / "packed").glob("*.tar"))) as tar:
        held = {tar.extractfile(name).read() for name in tar.getnames() if name.endswith(".ppm")}  # type: ignore[union-attr]
    assert held == {(folder / f"{number}.ppm").read_bytes() for number in range(3)}


def test_a_kind_of_task_measures(seen: dict[str, Any]) -> None:
    assert seen["nearer"][0] == pytest.approx(seen["nearer"][1])


def test_the_report_draws_what_it_has_no_other_way_to_show() -> None:
    """Of a rising and a falling line, the first lies low on the left and high on the right."""
    from tercet.data_pipelines.sample import Sample
    from tercet.eval.report.gallery import exhibit

    rising = np.linspace(0, 1, 40, dtype=np.float32)
    shown = exhibit(Sample("a", 0, 0, {"series": np.stack([rising, 1 - rising], axis=1)}), "series", 16000)
    assert shown.image is not None
    pixels = np.asarray(Image.open(io.BytesIO(shown.image)).convert("RGB")).astype(int)
    bright = pixels.sum(axis=2)
    corners = bright[-6:, :12].max(), bright[:6, -12:].max(), bright[:6, :12].max(), bright[-6:, -12:].max()
    assert corners[0] > corners[2], corners
    assert corners[1] > corners[3], corners
    assert min(corners) > bright[60:68, :8].max()


def test_an_optimizer_steps(seen: dict[str, Any]) -> None:
    """0.1 at first, then 0.1 · (1 + 0.5)."""
    assert seen["weight"].tolist() == pytest.approx([0.75, 0.75])
