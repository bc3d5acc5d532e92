"""A recipe proposed for given data: what it says of them is so, every value has its why, and it runs as it is."""

import csv
import json
from collections.abc import Iterable
from functools import reduce
from pathlib import Path
from statistics import median_low
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tercet.command import main
from tercet.configs.layers import nested
from tercet.configs.yaml_text import read_yaml
from tercet.data_pipelines.sample import Batch, Field
from tercet.distributed import World
from tercet.errors import UserError
from tercet.training.history.config import EarlyStoppingConfig
from tercet.training.layering import RECIPE
from tercet.training.proposal.choice import Choice
from tercet.training.proposal.choose import batch_size, choose_way, warmup
from tercet.training.proposal.machine import GIB, Gpu, Machine
from tercet.training.proposal.measure import Measured, StepTimer, tiled
from tercet.training.proposal.pace import duration
from tercet.training.proposal.propose import as_config, draft
from tercet.training.proposal.seen import DataSummary
from tercet.training.proposal.splits import Splits, held_out, splits
from tercet.training.proposal.ways import FINETUNING, LOCKED, SCALES, SMALL, Way
from tercet.training.proposal.write import to_yaml
from tercet.training.recipe import load_recipe

ROWS = 48
GPU_OF_80 = SimpleNamespace(total_memory=80 * GIB)
CPU = Machine((), 2, 8 * GIB, 50 * GIB)
GPU = Machine((Gpu("H100", 80 * GIB),), 16, 128 * GIB, 50 * GIB)
TABLE = Splits("photos.csv", None, "given")
PAGE = Path(__file__).parents[2] / "docs" / "choose.md"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of pictures, each of a colour that its caption names; four rows show the same picture as another."""
    folder = tmp_path_factory.mktemp("photos")
    for row in range(ROWS - 4):
        Image.new("RGB", (40, 30), (row * 5, 90, 255 - row * 5)).save(folder / f"{row}.jpg")
    with (folder / "photos.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "caption"])
        table.writerows([f"{row % (ROWS - 4)}.jpg", caption(row)] for row in range(ROWS))
    return folder / "photos.csv"


def caption(row: int) -> str:
    return " ".join(["a", *["very"] * (row % 4), f"blue picture of number {row}"])


def seen(pairs: int, *modalities: str, **changes: Any) -> DataSummary:
    facts = {
        "samples": pairs, "looked_at": min(pairs, 4096), "pairs": pairs, "holding": dict.fromkeys(modalities, pairs),
        "captions": pairs, "different": pairs, "words": {"p50": 9, "p95": 14}, "seconds": {"p50": 4.0, "p95": 9.0},
        "twice": {}, "bad": 0,
    }  # fmt: skip
    return DataSummary(**(facts | changes))


@pytest.fixture(scope="module")
def proposed(photos: Path) -> dict[str, Any]:
    """What the command says, and the recipe that it wrote."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tercet.training.proposal.propose.reachable", lambda recipe: False)
        printed: list[Any] = []
        patch.setattr("tercet.command.proposal.print_json", printed.append)
        assert main(["recipes", "new", "--data", str(photos), "--out", str(photos.parent / "new.yaml"), "--json"]) == 0
    return dict(printed[0])


def test_the_printed_facts_about_the_data_are_right(proposed: dict[str, Any]) -> None:
    captions = [caption(row) for row in range(ROWS)]
    printed = proposed["data"]
    assert (printed["samples"], printed["pairs"], printed["holding"]) == (ROWS, ROWS, {"image": ROWS, "text": ROWS})
    assert (printed["captions"], printed["different"], printed["twice"]) == (ROWS, len(set(captions)), {"image": 4})
    assert printed["words"]["p50"] == median_low(len(text.split()) for text in captions)


def test_the_proposed_recipe_trains_unchanged(
    proposed: dict[str, Any], photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = photos.parent / "new.yaml"
    assert main(["recipes", "check", str(recipe)]) == 0
    config = load_recipe(str(recipe))
    learnt, held = config.data.train["train"], config.data.val["val"]
    assert (learnt.source, learnt.group, learnt.part, held.part) == (str(photos), "image", (0.1, 1.0), (0.0, 0.1))
    assert main(["train", str(recipe), "steps=3", f"out={tmp_path / 'run'}", "data.workers=0"]) == 0
    steps = {
        file: [json.loads(line)["step"] for line in (tmp_path / "run" / file).read_text().splitlines()]
        for file in ("metrics.jsonl", "evaluations.jsonl")
    }
    assert steps == {"metrics.jsonl": [1, 2, 3], "evaluations.jsonl": [1, 2, 3]}
    shown = capfd.readouterr().out
    assert "early stopping: the weights are those of step " in shown
    assert shown.count(" is not distinguishable from chance (") + shown.count(" is above chance (") == 2
    report = (tmp_path / "run" / "report.html").read_text()
    assert all(words in report for words in ("ridge on simple features", "ridge on random towers", "Held-out R@1 %"))


def values_of(choices: Iterable[Choice]) -> dict[str, Any]:
    layers = (nested(choice.key, choice.value) for choice in choices)
    return reduce(RECIPE.lay, layers, {})


def test_the_recipe_gives_the_reason_for_every_value(proposed: dict[str, Any], photos: Path) -> None:
    text = (photos.parent / "new.yaml").read_text()
    shown = " ".join(line.strip(" #") for line in text.splitlines() if line.strip().startswith("#"))
    assert all(choice["why"] in shown for choice in proposed["recipe"])
    assert proposed["caution"].startswith("this run does not start from pretrained weights")
    assert f"Weights: {proposed['caution']}." in shown
    assert read_yaml(text, "") == values_of(Choice(**choice) for choice in proposed["recipe"])


def test_the_estimated_time_is_computed_from_the_measured_step(proposed: dict[str, Any]) -> None:
    pace, step = proposed["pace"], proposed["pace"]["step"]
    values = {choice["key"]: choice["value"] for choice in proposed["recipe"]}
    loop = step["seconds"] * values["batch_size"] / step["rows"]
    loading = step["loading"] * values["batch_size"] / proposed["machine"]["cores"]
    assert pace["seconds_per_step"] == pytest.approx(loop + loading)
    assert pace["seconds"] == pytest.approx(values["steps"] * pace["seconds_per_step"])
    assert step["seconds"] > 0
    share = values["checkpoint.every"] * pace["seconds_per_step"]
    assert share <= min(1800, pace["seconds"] / 10) + pace["seconds_per_step"]  # what a crash costs


def by_hand(pairs: int, modalities: str, gpu: bool, weights: bool) -> str | None:
    """The rules as the page says them."""
    large = gpu and modalities != "audio image"
    if modalities == "image text" and pairs <= 10_000 and weights:
        return "finetune_lora" if gpu else "finetune_clip"
    if modalities == "audio text" and pairs <= 10_000 and weights:
        return "finetune_clap"
    if not large or (pairs <= 1_000_000 and (not weights or modalities == "audio image text" or pairs <= 10_000)):
        return None
    if pairs <= 1_000_000:
        return {"image text": "finetune_clip", "audio text": "finetune_clap"}[modalities]
    if pairs <= 20_000_000 and weights and modalities == "image text":
        return "finetune_lit"
    return {"image text": "image_text", "audio text": "audio_text", "audio image text": "trimodal"}[modalities]


@pytest.mark.parametrize("modalities", ["image text", "audio text", "audio image text", "audio image"])
@pytest.mark.parametrize("pairs", [500, 10_000, 10_001, 1_000_000, 5_000_000, 20_000_001])
def test_the_number_of_pairs_decides_the_method_unless_something_prevents_it(pairs: int, modalities: str) -> None:
    for machine in (CPU, GPU):
        for weights in (True, False):
            chosen = choose_way(
                seen(pairs, *modalities.split()), pairs, machine, lambda recipe, weights=weights: weights
            )
            assert chosen.way.recipe == by_hand(pairs, modalities, bool(machine.gpus), weights), (machine, weights)


@pytest.mark.parametrize(("pairs", "machine", "recipe"), [
    (500, GPU, "finetune_lora"), (500, CPU, "finetune_clip"),
    (10**8, GPU, "finetune_clip"), (10**8, CPU, "finetune_clip"),
])  # fmt: skip
def test_weights_given_by_the_user_are_always_used(pairs: int, machine: Machine, recipe: str) -> None:
    chosen, choices = draft(TABLE, seen(pairs, "image", "text"), machine, lambda recipe: True, "runs/mine")
    assert chosen.way.recipe == recipe
    assert ("unlocked" in values_of(choices).get("model", {}).get("image", {})) == (machine is CPU)
    assert values_of(choices)["init"] == "runs/mine"
    with pytest.raises(UserError, match="no recipe starts from weights for audio, image, text"):
        draft(TABLE, seen(pairs, "image", "audio", "text"), machine, lambda recipe: True, "runs/mine")


@pytest.mark.parametrize("machine", [CPU, GPU], ids=["cpu", "gpu"])
@pytest.mark.parametrize("weights", [True, False], ids=["weights", "none"])
@pytest.mark.parametrize("modalities", ["image text", "audio text", "audio image text", "audio image"])
@pytest.mark.parametrize("pairs", [500, 300_000, 5_000_000, 50_000_000])
def test_every_proposal_is_a_valid_recipe(modalities: str, pairs: int, weights: bool, machine: Machine) -> None:
    chosen, choices = draft(TABLE, seen(pairs, *modalities.split()), machine, lambda recipe: weights)
    config = as_config(choices)
    learnt = pairs * (1 - held_out(TABLE, seen(pairs)))
    assert (chosen.caution is None) == (chosen.way is not SMALL)
    assert config.batch_size <= learnt / 8
    assert config.schedule.warmup <= config.steps / 10
    assert config.steps * config.batch_size == pytest.approx(chosen.way.epochs * learnt, rel=0.1)


@pytest.mark.parametrize("pairs", [500, 300_000, 5_000_000, 50_000_000])
@pytest.mark.parametrize("val", ["shards/val", None])
def test_every_proposal_evaluates_during_training(pairs: int, val: str | None) -> None:
    """It holds samples out, evaluates them while it trains, keeps the best weights, and is compared with shortcuts."""
    layout = Splits("shards/train", val, "given")
    summary = seen(pairs, "image", "text", twice={"image": pairs})
    config = as_config(draft(layout, summary, GPU, lambda recipe: True)[1])
    (learnt,), (held,) = config.data.train.values(), config.data.val.values()
    share = held_out(layout, summary)
    assert (learnt.source, learnt.group, learnt.part) == ("shards/train", "image", None if val else (share, 1))
    assert (held.source, held.group, held.part) == (val or "shards/train", "image", None if val else (0, share))
    assert config.eval.interval(config.steps) == config.steps // 10
    assert config.eval.shortcuts == min(2_000, round(pairs * (1 - share)))
    assert config.early_stopping == EarlyStoppingConfig(task="retrieval", metric="mAP@10", patience=4)


def test_the_page_shows_the_table_of_rules() -> None:
    largest = {(way.title, way.recipe): (way, most) for most, ways in SCALES for way in ways}  # the last stays
    expected = [row(way, "more" if most == float("inf") else f"{most:,.0f}") for way, most in largest.values()]
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.count("|") == 10][2:] == [*expected, row(SMALL, "any")]


def row(way: Way, most: str) -> str:
    recipe = f"`{way.recipe}`" if way.recipe else "nothing"
    warm = f"{way.warmup:,}" if isinstance(way.warmup, int) else f"{way.warmup:.0%}".replace("%", " %")
    rate = f"{way.lr:g}".replace("e-0", "e-")
    cells = (most, way.title, recipe, f"{way.batch_size:,}", rate, warm, f"{way.weight_decay:g}", f"{way.betas[1]:g}")
    return f"| {' | '.join(cells)} | {way.epochs} |"


@pytest.mark.parametrize("way", [way for _, ways in SCALES for way in ways if way.recipe], ids=lambda way: way.recipe)
def test_the_extended_recipes_have_the_same_numbers(way: Way) -> None:
    """A number that the proposal changes would be a number with two sources."""
    config = load_recipe(way.recipe or "")
    if "adapters" not in way.title or way.recipe == "finetune_lora":
        assert config.optimizer.lr == way.lr
        assert config.optimizer.betas == way.betas
        assert config.optimizer.weight_decay == way.weight_decay
        assert config.schedule.warmup in (way.warmup, 0.1)  # no more than a tenth is rather a rule of the proposal's
    assert config.epochs == way.epochs or not way.pretrained or "bottleneck" in way.title


def test_batch_size_and_warmup_are_smaller_for_small_data() -> None:
    assert [batch_size(FINETUNING, pairs) for pairs in (32, 64, 511, 512, 4_096, 10**6)] == [8, 8, 32, 64, 512, 512]
    assert [warmup(FINETUNING, steps)[0] for steps in (40, 400, 5_000, 10**6)] == [4, 40, 500, 500]
    assert [warmup(LOCKED, steps)[0] for steps in (500, 2_000, 10_000)] == [50, 100, 300]


def test_few_classes_hold_out_pictures_and_many_classes_hold_out_classes() -> None:
    for classes, by in ((10, "file"), (300, None)):
        names = seen(3_000, "image", "text", different=classes)
        shown = values_of(splits(TABLE, names))["data"]
        assert (names.classes, shown["group"], shown["held_out"], shown.get("split_by")) == (classes, "text", 0.1, by)
    assert held_out(TABLE, seen(2_000_000, "image", "text")) == 0.0025


Scalar = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_categories=("C",)), max_size=20),
    st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none(),
)  # fmt: skip
Value = st.one_of(Scalar, st.lists(Scalar, max_size=3), st.dictionaries(st.text("abc", min_size=1), Scalar, max_size=3))


@settings(max_examples=50)
@given(st.dictionaries(st.text("xyz", min_size=1, max_size=3), Value, min_size=1, max_size=6), st.text(max_size=200))
def test_a_written_recipe_reads_back_equal(values: dict[str, Any], why: str) -> None:
    whys = " ".join(why.split()) or "so"
    text = to_yaml(["a heading", "more of it"], [Choice(key, value, whys) for key, value in values.items()])
    assert read_yaml(text, "") == values


def test_repeated_samples_of_a_batch_keep_their_rows() -> None:
    field = Field("text", torch.tensor([[10], [12]]), torch.tensor([0, 2]))
    once = Batch(torch.arange(3), torch.full((3,), -1), {"text": field})
    again = tiled(once, 7)
    naive = [(item, 10 + item % 3) for item in range(7) if item % 3 != 1]
    assert len(again) == 7
    assert len(again.groups.unique()) == 7, "rows of one group do not repel each other: nothing would be learned"
    assert (
        list(zip(again.fields["text"].item.tolist(), again.fields["text"].values[:, 0].tolist(), strict=True)) == naive
    )


def test_the_time_of_a_step_is_proportional_to_its_rows() -> None:
    assert Measured(64, 0.5, 0.001, 32, "cuda").step(512) == 4.0
    assert [duration(seconds) for seconds in (5, 119, 130, 9_000, 400_000)] == [
        "5 seconds", "119 seconds", "2.2 minutes", "2.5 hours", "4.6 days",
    ]  # fmt: skip


def test_the_batch_that_fits_into_a_gpu_is_extrapolated_from_two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for a GPU of 80 GiB, on which a model takes 4 GiB and a row 50 MiB: 0.8 of it is full at 1228 rows."""
    taken: list[int] = []
    monkeypatch.setattr(StepTimer, "time", lambda bench, batch, micro_batch: taken.append(len(batch)))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 4 * GIB + taken[-1] * 50 * 2**20)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: GPU_OF_80)
    bench = StepTimer.__new__(StepTimer)
    bench.cuda, bench.world = True, World()
    assert bench.fitting_rows(Batch(torch.arange(3), torch.full((3,), -1), {})) == 1024
    assert taken == [8, 16]


def test_unusable_data_are_an_error_of_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.zeros((20, 20, 3), dtype=np.uint8)
    (tmp_path / "few").mkdir()
    Image.fromarray(pixels).save(tmp_path / "few" / "a.png")
    (tmp_path / "few.csv").write_text("path,caption\nfew/a.png,black\n")
    (tmp_path / "mute.csv").write_text("path\n" + "few/a.png\n" * 40)
    (tmp_path / "latin.csv").write_bytes(("path,caption\n" + "few/a.png,für\n" * 40).encode("latin-1"))
    gone = [f"few/{row}.png,{row}\n" for row in range(8)]
    (tmp_path / "gone.csv").write_text("path,caption\n" + "few/a.png,black\n" * 40 + "".join(gone))
    (tmp_path / "there.yaml").write_text("")
    mistakes = {
        ("x", "--init", str(tmp_path / "no_run")): "no_run is not on this machine and cannot be downloaded",
        (str(tmp_path / "few.csv"), "imge=path"): "command line: unknown key `imge`; did you mean `image`?",
        (str(tmp_path / "nowhere.csv"),): "nowhere.csv does not exist",
        (str(tmp_path / "few.csv"),): "has 1 usable pair, too few to learn from; give at least 32",
        (str(tmp_path / "mute.csv"),): "training needs two modalities; add captions",
        (str(tmp_path / "latin.csv"),): "latin.csv can be used; `tercet data check ",
        (str(tmp_path / "gone.csv"),): "8 of 48 samples of",
        ("x", "--out", str(tmp_path / "there.yaml")): "already exists",
        ("x", "--out", str(tmp_path / "recipe.txt")): "a recipe is a YAML file",
        ("x", "--out", str(tmp_path / "no" / "r.yaml")): "there is no folder",
    }
    for words, message in mistakes.items():
        assert main(["recipes", "new", "--data", *words]) == 2
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("tercet: ")
        assert message in last
