"""The recipes of audio systems, with and without the method: what it changes, and what not.

Each recipe takes two steps.
"""

import json
from collections import Counter
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.data_pipelines.builtin.dataset import generate
from tercet.testing import on_ranks
from tests.training.published import FUSED, PARTS, SETS, run_all, tiny, write_sidecars
from tests.training.tiny import MODEL, assert_same_run, losses, recipe, run, saved
from tests.training.watched import Seen, watch

pytestmark = pytest.mark.long

WORLD = WorldConfig(train=24, val=8, combinations=0, size=16, rate=8000, seconds=11, samples_per_shard=8, workers=1)
HTSAT = {
    "encoder": "laion_clap:HTSAT-tiny", "frozen_batchnorm": True,
    "options": {"fusion": True, "patch_embeds_hidden_size": 8, "depths": [1, 1, 1, 1],
                "num_attention_heads": [1, 1, 1, 1], "projection_dim": 16, "drop_path_rate": 0.0},
}  # fmt: skip
ONE_PART = MODEL["audio"]
KEYWORDS = "data.train.captions={txt: 0, json.text: 0, keywords.tags: 1}"


def hearing(tower: dict[str, object]) -> list[str]:
    return ["model.audio=null", f"model.audio={json.dumps(tower)}"]


CASES: dict[str, tuple[str, list[str]]] = {  # the recipe, and what changes
    "laion_clap": ("laion_clap", [*hearing(HTSAT | {"seconds": 12}), KEYWORDS]),
    "laion_clap without fusion": (
        "laion_clap", [*hearing(HTSAT | {"seconds": 10}), KEYWORDS]
    ),
    "laion_clap without keywords": (
        "laion_clap", [*hearing(HTSAT | {"seconds": 12}), "data.train.captions={keywords.tags: 0}"]
    ),
    "glap": ("glap", ["batch_size=6", "epochs=4"]),
    "glap without equal weights": ("glap", ["batch_size=6", "epochs=4", "data.weights=size"]),
    "paraclap": ("paraclap", []),
    "paraclap without voices": ("paraclap", ["data.train.captions={txt: 1, json.voice_captions: 0}"]),
    "clasp": ("clasp", []),
    "clasp without a second tower": ("clasp", hearing(ONE_PART)),
}  # fmt: skip


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audio")


@pytest.fixture(scope="module")
def seen(out: Path) -> dict[str, list[Seen]]:
    world = generate(WORLD, out / "world")
    write_sidecars(out, str(world / "train"))
    files = {"TAGS": f"{out / 'tags.jsonl'}", "VOICES": f"{out / 'voices.jsonl'}", "TRAIN": f"{world / 'train'}"}
    recipes = {}
    for name, (of, changes) in CASES.items():
        sets = [reduce(lambda one, file: one.replace(*file), files.items(), one) for one in SETS[of]]
        small = ["batch_size=8", *sets, *changes, f"out={out / name.replace(' ', '-')}"]
        recipes[name] = [*tiny(of, world, out), *small]
    (found,) = on_ranks(watch, 1, recipes)
    return found


def test_fusion_reads_whole_clips_and_trains_its_own_weights(seen: dict[str, list[Seen]], out: Path) -> None:
    """Without it, the clips of 11 s are cropped to 10 s, and the weights of the fusion stay as they were."""
    on, off = seen["laion_clap"][0], seen["laion_clap without fusion"][0]
    assert on.ids == off.ids
    assert not torch.equal(on.rows["audio"], off.rows["audio"])
    one, other = (saved(out / name.replace(" ", "-")) for name in ("laion_clap", "laion_clap without fusion"))
    fusion = [name for name in one if name.startswith("weight/") and "mel_conv2d" in name]
    assert fusion
    assert not any(torch.equal(one[name], other[name]) for name in fusion)


def test_captions_of_keywords_change_gradients_and_no_batch(seen: dict[str, list[Seen]]) -> None:
    on, off = seen["laion_clap"][0], seen["laion_clap without keywords"][0]
    assert on.ids == off.ids
    assert not torch.equal(on.rows["text"], off.rows["text"])


def test_sources_of_equal_weight_have_equal_parts_of_each_batch(seen: dict[str, list[Seen]]) -> None:
    """Ids are dense, source by source, so that those of a source are a range. The sources have different sizes."""
    on, off = (Counter(id for step in seen[name] for id in step.ids) for name in ("glap", "glap without equal weights"))
    assert on.total() == off.total()
    spread = {name: max(times.values()) - min(times.values()) for name, times in (("on", on), ("off", off))}
    assert spread["on"] > spread["off"], "samples of a small source repeat"
    assert PARTS.keys() == {"speech", "sound", "music"}


def test_captions_of_voices_change_gradients_and_no_batch(seen: dict[str, list[Seen]]) -> None:
    on, off = seen["paraclap"][0], seen["paraclap without voices"][0]
    assert on.ids == off.ids
    assert not torch.equal(on.rows["audio"], off.rows["audio"])


def test_only_the_fusion_of_clasp_trains(seen: dict[str, list[Seen]], out: Path) -> None:
    on, off = seen["clasp"][0], seen["clasp without a second tower"][0]
    assert on.ids == off.ids
    assert not torch.equal(on.rows["audio"], off.rows["audio"])
    weights = {name for name in saved(out / "clasp") if name.startswith("optim/exp_avg/towers.audio")}
    assert weights
    assert all(".fusion." in name for name in weights)
    assert len(FUSED["options"]["parts"]) == 2  # type: ignore[index,arg-type]


def test_a_rank_without_long_clips_trains_the_fusion_as_well(tmp_path: Path) -> None:
    """Two of eight clips are fused, so that one of two ranks often has none. One process gives the same weights."""
    dice, rows = np.random.default_rng(0), ["audio,caption"]
    for number in range(8):
        soundfile.write(tmp_path / f"{number}.wav", dice.normal(0, 0.2, 8000 * (3 if number % 4 else 12)), 8000)
        rows.append(f"{number}.wav,sound {number}")
    (tmp_path / "sounds.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    small = [one for one in tiny("laion_clap", tmp_path, tmp_path) if not one.startswith("data.")]
    small += ["data.workers=0", f"data.train={tmp_path / 'sounds.csv'}", f"data.val={tmp_path / 'sounds.csv'}"]
    small += [*hearing(HTSAT | {"seconds": 12}), "batch_size=4", "epochs=2"]
    for ranks in (1, 2):
        on_ranks(run_all, ranks, {"laion_clap": [*small, f"out={tmp_path / str(ranks)}"]})
    one, two = (saved(tmp_path / str(ranks)) for ranks in (1, 2))
    weights = [name for name in one if name.startswith("weight/")]
    for name in weights:
        torch.testing.assert_close(one[name], two[name], atol=1e-6, rtol=1e-5)
    assert losses(tmp_path / "1") == pytest.approx(losses(tmp_path / "2"), rel=1e-5)


def test_a_run_that_fuses_clips_resumes_with_the_same_bits(seen: dict[str, list[Seen]], out: Path) -> None:
    """The parts of a clip are drawn by the epoch and the sample, wherever the run was torn down."""
    model = {"dim": 16, "audio": HTSAT | {"seconds": 12}, "text": MODEL["text"]}
    small = {"model": model, "pairs": {"audio-text": 1.0}, "batch_size": 4, "steps": 8, "checkpoint": {"every": 2}}
    for name, stop in (("whole", None), ("parts", 3), ("parts", None)):
        on_ranks(run, 1, recipe(out / "world", out / name, **small), stop)
    assert_same_run(out / "whole", out / "parts")
