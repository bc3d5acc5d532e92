"""Log-mels equal a naive computation in numpy, and those of Kaldi in torchaudio."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torchaudio.compliance import kaldi

from tercet.data_pipelines.sample import Field
from tercet.errors import UserError
from tercet.models import audio_features
from tercet.models.audio_features import FRONT_ENDS, build_front_end, covered
from tercet.models.config import ModelConfig
from tercet.models.multimodal import Multimodal, build_model
from tercet.models.term_config import TermConfig


def hertz_to_mel(hertz: float, slaney: bool) -> float:
    if not slaney:
        return 2595 * math.log10(1 + hertz / 700)
    return hertz * 3 / 200 if hertz < 1000 else 15 + 27 * math.log(hertz / 1000) / math.log(6.4)


def mel_to_hertz(mel: float, slaney: bool) -> float:
    if not slaney:
        return 700 * (10 ** (mel / 2595) - 1)
    return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)


def naive_log_mel(
    wave: np.ndarray, rate: int, hop: int, window: int, fft: int, mels: int, low: float, high: float, slaney: bool
) -> np.ndarray:
    """Energies in triangular bands, frame by frame and band by band."""
    edges = np.linspace(hertz_to_mel(low, slaney), hertz_to_mel(high, slaney), mels + 2)
    points = [mel_to_hertz(edge, slaney) for edge in edges]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    padded = np.concatenate([np.zeros(window // 2), wave, np.zeros(window)])
    energies = np.zeros((mels, math.ceil(len(wave) / hop)))
    for frame in range(energies.shape[1]):
        power = np.abs(np.fft.rfft(padded[frame * hop : frame * hop + window] * hann, fft)) ** 2
        for band in range(mels):
            left, middle, right = points[band : band + 3]
            for bin_, value in enumerate(power):
                hertz = bin_ * rate / fft
                height = max(0.0, min((hertz - left) / (middle - left), (right - hertz) / (right - middle)))
                energies[band, frame] += value * height * (2 / (right - left) if slaney else 1)
    return energies


NAIVE = {
    "clap48k64": ((48_000, 480, 1024, 1024, 64, 50, 14_000, True), lambda e: (10 * np.log10(e) + 40) / 20),
    "ast16k128": ((16_000, 160, 400, 1024, 128, 20, 8_000, False), lambda e: (np.log(e) + 4.268) / 9.138),
    "small16k64": ((16_000, 320, 640, 640, 64, 50, 8_000, False), lambda e: (np.log(e) + 3) / 5),
}


def noise(samples: int, seed: int = 0) -> Tensor:
    return 0.3 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", NAIVE)
def test_stft_log_mels_equal_a_naive_computation(name: str) -> None:
    settings, logarithm = NAIVE[name]
    wave = noise(settings[0] // 10 + 7)
    ours = build_front_end(name)(wave[None])[0].numpy()
    expected = logarithm(naive_log_mel(wave.double().numpy(), *settings))
    np.testing.assert_allclose(ours, expected, atol=2e-4)


@pytest.mark.parametrize("samples", [400, 3_210, 16_000])
def test_kaldi_log_mels_equal_kaldi(samples: int) -> None:
    wave = noise(samples) + 0.2  # an offset that Kaldi removes
    expected = kaldi.fbank(
        wave[None], htk_compat=True, sample_frequency=16_000, use_energy=False, window_type="hanning",
        num_mel_bins=128, dither=0.0, frame_length=25, frame_shift=10,
    )  # fmt: skip
    ours = build_front_end("kaldi16k128")(wave[None])[0].T
    torch.testing.assert_close(ours, (expected + 4.268) / 9.138, atol=2e-4, rtol=0)


@pytest.mark.parametrize("name", FRONT_ENDS.names())
def test_frames_do_not_depend_on_padding(name: str) -> None:
    front_end = build_front_end(name)
    lengths = torch.tensor([5_000, 9_600, 300])
    batch = torch.stack([noise(12_345, seed) for seed in range(3)])  # noise beyond the end of every clip
    together = front_end(batch, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = front_end(batch[row : row + 1, :length])[0]
        frames = int(front_end.frames(lengths[row]))
        assert alone.shape[1] == frames
        torch.testing.assert_close(together[row, :, :frames], alone, atol=1e-6, rtol=0)
        assert not together[row, :, frames:].any()


def test_clips_of_a_large_batch_have_the_log_mels_that_they_have_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    front_end = build_front_end("small16k64")
    waves, lengths = noise(7 * 4_000).view(7, 4_000), torch.tensor([4_000, 10, 4_000, 900, 4_000, 1, 3_999])
    alone = torch.cat([front_end(wave[None], length[None]) for wave, length in zip(waves, lengths, strict=True)])
    monkeypatch.setattr(audio_features, "AT_ONCE", 3 * 13 * 640)  # frames of three clips
    assert torch.allclose(front_end(waves, lengths), alone, atol=1e-5)


@pytest.mark.parametrize("name", FRONT_ENDS.names())
def test_autocast_leaves_log_mels_in_fp32(name: str) -> None:
    front_end, wave = build_front_end(name), noise(9_000)[None]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = front_end(wave)
    torch.testing.assert_close(cast, front_end(wave), atol=0, rtol=0)


@pytest.mark.parametrize("name", FRONT_ENDS.names())
def test_speech_like_loudness_lands_in_unit_range(name: str) -> None:
    log_mel = build_front_end(name)(noise(48_000)[None] / 3)
    assert log_mel.abs().mean() < 2.5


def test_a_front_end_has_no_state() -> None:
    assert not build_front_end("kaldi16k128").state_dict()


def test_an_unknown_front_end_gets_a_suggestion() -> None:
    with pytest.raises(UserError, match="did you mean `ast16k128`"):
        build_front_end("ast16k124")


def drawn_masks(rows: int, masks: int) -> Tensor:
    """Rectangles, some of them empty, some over all bands or all frames."""
    ends = torch.rand(rows, masks, 2, 2, generator=torch.Generator().manual_seed(3)).sort(-1).values
    ends[:, 0, 0] = torch.tensor([0.0, 1.0])
    ends[:, 1, 1] = torch.tensor([0.0, 1.0])
    ends[0, 2] = 0.5
    return ends.flatten(2)


def test_masks_hide_the_cells_whose_centres_are_inside() -> None:
    masks, frames = drawn_masks(4, 3), [20, 7, 1, 13]
    ours = covered(masks, torch.tensor(frames), torch.Size((10, 20)))
    for row, count in enumerate(frames):
        for band in range(10):
            for frame in range(count):
                inside = [
                    low <= (band + 0.5) / 10 < high and start <= (frame + 0.5) / count < stop
                    for low, high, start, stop in masks[row].tolist()
                ]
                assert ours[row, band, frame] == any(inside)


@pytest.fixture(scope="module")
def model() -> Multimodal:
    towers = {"audio": {"encoder": "small:audio", "features": "small16k64", "seconds": 0.8}}
    config = ModelConfig.model_validate({"dim": 16, **towers})
    return build_model(config, [TermConfig(between=("audio", "audio.other"))], seed=0)


def clips() -> Field:
    lengths = torch.tensor([12_800, 9_000, 4_321, 12_800, 640])
    values = torch.stack([noise(12_800, seed) for seed in range(5)])
    return Field("audio", values, torch.arange(5), lengths, drawn_masks(5, 3))


def test_masked_cells_have_the_mean_value(model: Multimodal, monkeypatch: pytest.MonkeyPatch) -> None:
    field, tower = clips(), model.tower("audio")
    shown: list[Tensor] = []
    encode = tower.encode
    monkeypatch.setattr(tower, "encode", lambda log_mel, frames: (shown.append(log_mel), encode(log_mel, frames))[1])
    model.encode(field)
    plain = tower.front_end(field.values, field.lengths)
    hidden = covered(field.masks, tower.front_end.frames(field.lengths), plain.shape[1:])
    assert 0.1 < hidden.float().mean() < 0.9
    assert not shown[0][hidden].any()
    assert torch.equal(shown[0][~hidden], plain[~hidden])


def test_masked_vectors_do_not_depend_on_chunks_or_padding(model: Multimodal) -> None:
    """Both passes of a gradient-cached step must see the same clips, in any chunks."""
    field = clips().to(torch.device("cpu"))
    together = model.encode(field)
    for size in (1, 2):
        parts = [model.encode(field.rows(start, start + size)) for start in range(0, 5, size)]
        torch.testing.assert_close(torch.cat(parts), together, atol=1e-5, rtol=0)
    for row, length in enumerate(field.lengths.tolist()):
        one = field.rows(row, row + 1)
        alone = Field("audio", one.values[:, :length], one.item, one.lengths, one.masks)
        torch.testing.assert_close(model.encode(alone)[0], together[row], atol=1e-5, rtol=0)


def test_masks_change_training_only(model: Multimodal) -> None:
    field = clips()
    bare = Field("audio", field.values, field.item, field.lengths)
    none = Field("audio", field.values, field.item, field.lengths, torch.zeros(5, 0, 4))
    assert (model.encode(field) - model.encode(bare)).abs().max() > 1e-3
    assert torch.equal(model.encode(none), model.encode(bare))
    assert torch.equal(model.embed_field(field), model.embed_field(bare))
