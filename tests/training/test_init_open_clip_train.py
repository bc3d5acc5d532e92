"""open_clip_train itself trains a tiny model; what it saved goes on here as it would have gone on there.

A batch is all of the data, so that the order in which either draws it does not matter, and their fourth step is known
from the checkpoint that follows it.
"""

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.loss import ClipLoss
from PIL import Image
from torch import Tensor

from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.interop.open_clip_train import read_optimizer_state
from tercet.testing import on_ranks
from tercet.training.checkpoints.progress import Progress
from tercet.training.config import RunConfig
from tercet.training.initial_weights import begin
from tercet.training.preflight.complete import inherited
from tercet.training.pretrained import load_model, pretrained
from tests.training.test_init import run_from, weights_of
from tests.training.tiny import losses, saved

pytest.importorskip("pandas")  # which open_clip_train imports and open_clip_torch does not bring along
peer = pytest.importorskip("open_clip_train.main")

pytestmark = pytest.mark.filterwarnings("ignore:'pin_memory' argument")  # of their loader, on a CPU

NAME, ITEMS, STEPS = "theirs-clip", 16, 4
CLIP = {
    "embed_dim": 24, "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}  # fmt: skip
FLAGS = (
    "--dataset-type csv --csv-separator , --csv-img-key path --csv-caption-key text --workers 0 --precision fp32 "
    "--lr 1e-3 --beta1 0.9 --beta2 0.98 --eps 1e-6 --wd 0.2 --warmup 1 --device cpu --name run "
    f"--aug-cfg scale=(1.0,1.0) --batch-size {ITEMS} --epochs {STEPS} --model {NAME}"
)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """epoch_1.pt … epoch_4.pt of their run, with the table it learned from beside its folder."""
    folder = tmp_path_factory.mktemp("theirs")
    (folder / f"{NAME}.json").write_text(json.dumps(CLIP))
    open_clip.add_model_config(folder)
    rows = ["path,text"]
    for item in range(ITEMS):
        pixels = np.random.default_rng(item).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{item}.png")
        rows.append(f"{folder / f'{item}.png'},a picture of number {item}")
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    with logging_kept():
        peer.main([*FLAGS.split(), "--train-data", str(folder / "table.csv"), "--logs", str(folder)])
    return folder / "run" / "checkpoints"


@contextmanager
def logging_kept() -> Iterator[None]:
    """Their run sets up every logger that there is."""
    loggers = [logging.root, *map(logging.getLogger, logging.root.manager.loggerDict)]
    handlers, levels = logging.root.handlers[:], [logger.level for logger in loggers]
    yield
    logging.root.handlers[:] = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def going_on(checkpoints: Path, out: Path, **changes: Any) -> dict[str, Any]:
    return {
        "name": "own", "out": str(out), "init": str(checkpoints / "epoch_3.pt"), "steps": STEPS, "batch_size": ITEMS,
        "data": {"train": str(checkpoints.parent.parent / "table.csv"), "crop": None, "worker": "thread"},
        "optimizer": {"lr": 1e-3, "betas": [0.9, 0.98], "eps": 1e-6, "weight_decay": 0.2}, "clip": 0.0,
        "schedule": {"warmup": 1}, "precision": "fp32", "log": {"to": []},
    } | changes  # fmt: skip


def theirs(path: Path) -> Any:
    return open_clip.create_model(NAME, pretrained=str(path)).eval()


def seen(folder: Path) -> tuple[Tensor, Tensor]:
    """All of the data, prepared as theirs."""
    preprocess = open_clip.image_transform(32, is_train=False)
    images = torch.stack([preprocess(Image.open(folder / f"{item}.png")) for item in range(ITEMS)])
    return images, open_clip.get_tokenizer(NAME)([f"a picture of number {item}" for item in range(ITEMS)])


def test_the_next_step_equals_that_of_open_clip_train(checkpoints: Path, tmp_path: Path) -> None:
    jobs = [(going_on(checkpoints, tmp_path / str(zero), zero=zero), None) for zero in (0, 2)]
    on_ranks(run_from, 1, jobs, checkpoints.parent.parent)
    model = theirs(checkpoints / "epoch_3.pt")
    expected = ClipLoss()(*model(*seen(checkpoints.parent.parent))).item()
    after = pretrained(str(checkpoints / "epoch_4.pt")).weights()
    state = read_optimizer_state(checkpoints / "epoch_4.pt")
    assert state is not None
    for zero in (0, 2):
        out = tmp_path / str(zero)
        assert losses(out) == pytest.approx([expected], rel=1e-6)
        for name, value in weights_of(out).items():
            torch.testing.assert_close(value, after[name].view_as(value), rtol=0, atol=1e-6, msg=name)
        tensors = saved(out)
        for name, value in state.moments.items():
            least = 1e-5 * float(value.abs().max())
            torch.testing.assert_close(tensors[name], value.view_as(tensors[name]), rtol=0, atol=least, msg=name)
        assert json.loads(next(out.glob("checkpoints/*/state.json")).read_text())["step"] == STEPS


@torch.no_grad()
def test_logits_equal_those_of_open_clip(checkpoints: Path) -> None:
    """Also without the name of the model: `params.txt` of the run has it."""
    folder = checkpoints.parent.parent
    images, texts = seen(folder)
    image, text, scale = theirs(checkpoints / "epoch_3.pt")(images, texts)
    expected = scale * image @ text.T
    pixels = [np.array(Image.open(folder / f"{item}.png")) for item in range(ITEMS)]
    for spec in (str(checkpoints / "epoch_3.pt"), f"open_clip:{NAME}/{checkpoints / 'epoch_3.pt'}"):
        ours = load_model(spec)
        rows = ours.head("image", ours.tower("image")(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)))
        captions = ours.embed_text([f"a picture of number {item}" for item in range(ITEMS)])
        logits = ours.head.temperature("image-text")[0] * rows @ captions.T
        torch.testing.assert_close(logits, expected, rtol=1e-6, atol=1e-5)


def test_the_progress_of_a_run_of_open_clip_train_is_read(checkpoints: Path) -> None:
    state = read_optimizer_state(checkpoints / "epoch_3.pt")
    assert state is not None
    assert (state.epoch, state.step, state.batch_size, state.fault) == (3, 3, ITEMS, "")
    weights = pretrained(str(checkpoints / "epoch_3.pt")).weights()
    assert state.moments.keys() == {f"optim/{kind}/{name}" for kind in ("exp_avg", "exp_avg_sq") for name in weights}


def test_steps_and_samples_of_open_clip_train_are_counted(
    checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def begun(**changes: Any) -> Progress:
        beginning = begin(inherited(RunConfig.model_validate(going_on(checkpoints, tmp_path, **changes))), World())
        assert beginning is not None
        return beginning.progress

    assert begun() == Progress(3, 3 * ITEMS, 3 * ITEMS, 0, {"train": 3 * ITEMS}, counters={"step": 3.0})
    assert "at step 3, after epoch 3\n" in capsys.readouterr().err
    assert begun(init=f"open_clip:{NAME}/{checkpoints / 'epoch_3.pt'}") == Progress(), "only its weights were asked for"
    stages = [{"name": name, "steps": 2} for name in ("one", "two", "three")]
    assert begun(stages=stages, steps=6).stage == 1
    with pytest.raises(UserError, match=r"has taken 3 steps, but `steps` is 2. Set `steps` to more to continue it"):
        begun(steps=2)


def test_optimizer_state_that_does_not_fit_is_not_loaded(checkpoints: Path, tmp_path: Path) -> None:
    held = torch.load(checkpoints / "epoch_3.pt", weights_only=True)
    locked = {**held, "optimizer": {**held["optimizer"], "param_groups": held["optimizer"]["param_groups"][:1]}}
    torch.save(locked, tmp_path / "locked.pt")
    held["optimizer"]["state"][0]["exp_avg"] = torch.zeros(7)
    torch.save(held, tmp_path / "other.pt")
    torch.save(held["state_dict"], tmp_path / "bare.pt")
    for name, fault in (
        ("locked.pt", r"it has \d+ parameters"),
        ("other.pt", "exp_avg number 0 does not have the shape"),
    ):
        state = read_optimizer_state(tmp_path / name)
        assert state is not None
        assert not state.moments
        assert re.match(fault, state.fault)
    assert read_optimizer_state(tmp_path / "bare.pt") is None


def test_settings_that_contradict_the_checkpoint_are_refused(checkpoints: Path, tmp_path: Path) -> None:
    def recipe(**changes: Any) -> RunConfig:
        return RunConfig.model_validate(going_on(checkpoints, tmp_path / "run", **changes))

    assert inherited(recipe()).model.towers["image"].encoder == f"open_clip:{NAME}"
    with pytest.raises(UserError, match=rf"encoder is `open_clip:ViT-B-32`, but init .* has `open_clip:{NAME}`"):
        inherited(recipe(model={"image": {"encoder": "open_clip:ViT-B-32"}}))
