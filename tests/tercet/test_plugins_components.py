"""What the components of docs/plugins.md make of data, beside what they should."""

import io
import json
import os
import shutil
import tarfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tercet.data_pipelines.seeding import keyed
from tercet.distributed import World
from tercet.testing import on_ranks
from tests.tercet.outside import PLUGINS, command, loading


def looked_at(world: World, folder: Path) -> dict[str, Any]:
    """What the page's other components make of data, beside what they should, in a process that loads them."""
    from tercet.plugins import load_plugins

    os.chdir(folder)
    load_plugins(
        folder / name for name in (*PLUGINS, "capped.py", "netpbm.py", "louder.py", "nearer.py", "momentum.py")
    )
    return {"losses": losses(world), "picture": picture(), "louder": louder(folder), "nearer": nearer()} | momentum()


@pytest.fixture(scope="module")
def seen(outside: Path) -> dict[str, Any]:
    (result,) = on_ranks(looked_at, 1, outside)
    return result  # type: ignore[no-any-return]


def losses(world: World) -> list[tuple[float, float]]:
    """The losses of 24 pairs, and the sums written out over whole matrices."""
    count, draw = 24, torch.Generator().manual_seed(0)
    x, y = (torch.nn.functional.normalize(torch.randn(count, 8, generator=draw), dim=1) for _ in "xy")
    focal = capped = 0.0
    for logits in (5 * x @ y.T, 5 * y @ x.T):
        likely = logits.softmax(dim=1).diagonal()
        focal += float(((1 - likely) ** 3 * -likely.log()).sum()) / (2 * count)
        low = torch.where(torch.eye(count, dtype=torch.bool), logits, logits.clamp(max=1.5))
        capped -= float(low.log_softmax(dim=1).diagonal().sum()) / (2 * count)
    return [(trained(x, y, "focal_nce", world, gamma=3), focal), (trained(x, y, "capped", world, cap=1.5), capped)]


def trained(x: torch.Tensor, y: torch.Tensor, name: str, world: World, **options: float) -> float:
    from tercet.data_pipelines.sample import Batch, Field
    from tercet.models.losses.terms import Terms
    from tercet.models.term_config import TermConfig

    fields = {name: Field(name, torch.zeros(len(x), 1), torch.arange(len(x))) for name in ("image", "text")}
    batch = Batch(torch.arange(len(x)), torch.arange(len(x)), fields)
    term = TermConfig.model_validate({"between": ["image", "text"], "objective": {"name": name, **options}})
    temperatures = {"image-text": (torch.tensor([5.0]), None)}
    return float(Terms([term], tile=7)(batch, {"image": x, "text": y}, temperatures, world).loss)


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
    from tercet.data_pipelines.batches.loader import Loader
    from tercet.data_pipelines.config import DataConfig
    from tercet.data_pipelines.sample import ArrayIntake
    from tercet.data_pipelines.seeding import keys
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
    from tercet.eval.embedding.embed import EmbeddingTable
    from tercet.eval.load_tasks import load_task

    draw, item = torch.Generator().manual_seed(0), torch.arange(30)
    vectors = {name: torch.randn(30, 4, generator=draw) for name in ("series", "text")}
    samples = tuple(Sample(str(number), number, number) for number in range(30))
    table = EmbeddingTable(vectors, dict.fromkeys(vectors, item), samples)
    (measure,) = load_task("sensors.yaml").measure(table, None, EvalConfig())  # type: ignore[union-attr, arg-type]
    x, y = vectors["series"].tolist(), vectors["text"].tolist()
    dot = [[sum(a * b for a, b in zip(x[i], y[j], strict=True)) for j in (i, i - 1)] for i in range(30)]
    return measure.statistics["nearer"].value, sum(own > other for own, other in dot) / 30


def momentum() -> dict[str, Any]:
    from tercet.training.engines.config import OptimizerConfig
    from tercet.training.engines.optimizers import optimizers

    weight = torch.nn.Parameter(torch.ones(2))
    config = OptimizerConfig(name="momentum", lr=0.1, betas=(0.5, 0.9))
    optimizer = optimizers.get("momentum")([{"params": [weight]}], config)
    for _ in range(2):
        weight.grad = torch.ones(2)
        optimizer.step()
    return {"weight": weight.detach()}


def test_losses_of_a_few_lines_equal_sums_over_whole_matrices(seen: dict[str, Any]) -> None:
    for found, expected in seen["losses"]:
        assert found == pytest.approx(expected, rel=1e-5)


def test_a_decoder_of_a_plugin_reads_further_files_of_a_modality(seen: dict[str, Any]) -> None:
    assert seen["picture"][0].shape == (12, 12, 3)
    assert np.array_equal(*seen["picture"])


def test_a_transform_of_a_plugin_draws_anew_for_each_sample(seen: dict[str, Any]) -> None:
    for least, most, wanted in seen["louder"]:
        assert least == pytest.approx(wanted, rel=1e-3)
        assert most == pytest.approx(wanted, rel=1e-3)
    assert len({wanted for _, _, wanted in seen["louder"]}) == 16


def test_files_that_a_plugin_decodes_are_counted_and_packed_unchanged(outside: Path) -> None:
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


def test_a_task_of_a_plugin_measures(seen: dict[str, Any]) -> None:
    assert seen["nearer"][0] == pytest.approx(seen["nearer"][1])


def test_an_optimizer_of_a_plugin_makes_a_step(seen: dict[str, Any]) -> None:
    """0.1 at first, then 0.1 · (1 + 0.5)."""
    assert seen["weight"].tolist() == pytest.approx([0.75, 0.75])
