"""The vector of a clip does not depend on the batch, the padding or the call."""

import math

import pytest
import timm
import torch
from torch import Tensor

from tercet.models.config import TowerConfig
from tercet.models.encoders import build_encoder
from tercet.models.encoders.audio import AudioEncoder, tile
from tercet.models.encoders.timm_towers import patchify
from tercet.testing.encoders import gives_tokens
from tercet.testing.rows import rows_for

TINY = {"depth": 2, "embed_dim": 32, "num_heads": 2}
NAFLEX = {"encoder": "timm:naflexvit_base_patch16_siglip", "options": TINY}
TOWERS = {
    "small": {"encoder": "small:audio", "features": "small16k64"},
    "naflex": NAFLEX,
    "naflex-gap": {"encoder": "timm:naflexvit_base_patch16_gap", "options": TINY, "features": "clap48k64"},
    "vit": {"encoder": "timm:vit_tiny_patch16_224", "options": TINY},
    "convnext": {
        "encoder": "timm:convnext_atto",
        "options": {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)},
        "features": "kaldi16k128",
    },
}
LENGTHS = (30_000, 16_000, 5_432, 200, 11_000)


def build(name: str) -> AudioEncoder:
    torch.manual_seed(0)
    tower = build_encoder("audio", TowerConfig(seconds=0.6, **TOWERS[name]))  # type: ignore[arg-type]
    assert isinstance(tower, AudioEncoder)
    return tower.eval()


def clips() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [0.3 * torch.randn(length, generator=generator) for length in LENGTHS]


def padded(waves: list[Tensor], extra: int, filling: float) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(wave) for wave in waves])
    batch = torch.full((len(waves), int(lengths.max()) + extra), filling)
    for row, wave in enumerate(waves):
        batch[row, : len(wave)] = wave
    return batch, lengths


def assert_same(ours: Tensor, expected: Tensor) -> None:
    assert (ours - expected).abs().max() <= 1e-5 * expected.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("name", TOWERS)
def test_vectors_do_not_depend_on_batch_or_padding(name: str) -> None:
    tower, waves = build(name), clips()
    alone = torch.cat([tower.embed(wave[None], torch.tensor([len(wave)])) for wave in waves])
    assert alone.std(0).mean() > 1e-3 * alone.abs().mean()  # equal vectors would prove nothing
    assert_same(tower.embed(*padded(waves, 0, 0.0)), alone)
    assert_same(tower.embed(*padded(waves, 9_999, 0.5)), alone)
    assert_same(tower.embed(*padded(waves[::-1], 1, -1.0)).flip(0), alone)
    assert_same(torch.cat([tower.embed(*padded(waves[:2], 7, 0.0)), tower.embed(*padded(waves[2:], 0, 0.0))]), alone)


@torch.no_grad()
@pytest.mark.parametrize("name", TOWERS)
def test_a_short_clip_needs_one_window(name: str) -> None:
    tower = build(name)
    wave = clips()[2][: tower.intake.window]
    batch, lengths = padded([wave], tower.intake.window - len(wave), 0.0)
    assert_same(tower.embed(wave[None]), tower(batch, lengths))


@torch.no_grad()
def test_a_long_clip_is_the_weighted_mean_of_its_windows() -> None:
    tower, wave = build("small"), clips()[0]
    window = tower.intake.window
    parts = [(0, window), (window, window), (2 * window, window), (len(wave) - window, len(wave) - 3 * window)]
    expected = sum(tower(wave[None, start : start + window]) * weight for start, weight in parts) / len(wave)
    assert_same(tower.embed(wave[None]), expected)


@pytest.mark.parametrize("window", [1, 7, 10])
def test_windows_weigh_every_sample_once(window: int) -> None:
    lengths = torch.arange(1, 40)
    row, start, weight = tile(lengths, window)
    for index, length in enumerate(lengths.tolist()):
        mine = row == index
        count = math.ceil(length / window)
        expected = [min(place * window, max(0, length - window)) for place in range(count)]
        assert start[mine].tolist() == expected
        fresh = [min(window, length - place * window) for place in range(count)]
        torch.testing.assert_close(weight[mine], torch.tensor(fresh) / length)


def test_patches_equal_those_of_single_clips() -> None:
    log_mel = torch.randn(2, 32, 50, generator=torch.Generator().manual_seed(0))
    frames = torch.tensor([50, 20])
    log_mel[1, :, 20:] = 0
    inputs = patchify(log_mel, frames, (16, 16))
    assert inputs["patch_valid"].sum(1).tolist() == [4 * 2, 2 * 2]
    for row in range(2):
        for place in range(int(inputs["patch_valid"][row].sum())):
            time, band = inputs["patch_coord"][row, place].tolist()
            assert (time, band) == divmod(place, 2)
            cut = torch.zeros(16, 16)
            source = log_mel[row, band * 16 : band * 16 + 16, time * 16 : time * 16 + 16].T
            cut[: len(source)] = source
            torch.testing.assert_close(inputs["x"][row, place], cut.flatten())


@torch.no_grad()
@pytest.mark.parametrize("model", ["naflexvit_base_patch16_siglip", "naflexvit_base_patch16_gap"])
def test_naflex_equals_timm_without_padding(model: str) -> None:
    """The masked sequence of a padded clip equals timm's model on an image without a mask."""
    torch.manual_seed(0)
    tower = build_encoder("audio", TowerConfig(encoder=f"timm:{model}", seconds=0.6, options=TINY)).eval()
    reference = timm.create_model(model, num_classes=0, in_chans=1, **TINY).eval()
    reference.load_state_dict(tower.model.state_dict())
    wave = clips()[2][:5_120]  # 32 frames: whole patches
    picture = tower.front_end(wave[None]).transpose(1, 2)[:, None]
    batch, lengths = padded([wave], 3_000, 0.5)
    assert_same(tower(batch, lengths), reference(picture))


@pytest.mark.parametrize("name", ["small", "naflex"])
def test_autocast_stays_close_to_fp32(name: str) -> None:
    tower = build(name)
    batch, lengths = padded(clips(), 0, 0.0)
    exact = tower(batch[:, :9_000], lengths.clamp(max=9_000))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = tower(batch[:, :9_000], lengths.clamp(max=9_000))
    cast.float().sum().backward()
    assert torch.nn.functional.cosine_similarity(cast.float(), exact).min() > 0.999


@torch.no_grad()
def test_the_order_of_sounds_changes_the_vector() -> None:
    tower, (first, second) = build("small"), clips()[1].split(8_000)
    one, other = tower(torch.cat((first, second))[None]), tower(torch.cat((second, first))[None])
    assert (one - other).norm() > 1e-2 * one.norm()


@torch.no_grad()
@pytest.mark.parametrize("name", TOWERS)
def test_tokens_are_in_time_and_do_not_depend_on_batch_or_padding(name: str) -> None:
    """What happens in the second half of a clip changes its later tokens more than its earlier ones."""
    tower = build(name)
    gives_tokens(tower, rows_for(tower.intake))
    (wave,) = clips()[1:2]
    loud = wave.clone()
    loud[8_000:] *= 20
    lengths = torch.tensor([len(wave)])
    quiet, changed = (tower.tokens(clip[None, : tower.intake.window], lengths.clamp(max=tower.intake.window)).tokens[0]
                      for clip in (wave, loud))  # fmt: skip
    half = len(quiet) // 2
    moved = (quiet - changed).norm(dim=1)
    if half:
        assert moved[half:].mean() > moved[:half].mean()
