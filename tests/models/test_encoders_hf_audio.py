"""Audio towers from Hugging Face equal the feature extractors and models of transformers."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    ASTModel,
    ClapAudioConfig,
    ClapAudioModelWithProjection,
    ClapFeatureExtractor,
    Data2VecAudioConfig,
    Data2VecAudioModel,
    HubertConfig,
    HubertForCTC,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForPreTraining,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperModel,
)  # fmt: skip

from tercet.errors import UserError
from tercet.models.config import TowerConfig
from tercet.models.encoders import build_encoder
from tercet.models.encoders.audio import AudioEncoder
from tercet.models.encoders.encoder import check_batchnorm
from tercet.testing.encoders import gives_tokens
from tercet.testing.rows import rows_for

TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
STILL = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "feat_proj_dropout": 0.0}
WAVES = {**TINY, **STILL, "conv_dim": (16, 16, 16), "conv_kernel": (10, 3, 3), "conv_stride": (5, 4, 4),
         "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}  # fmt: skip
STABLE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
WHISPER = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 48, "decoder_layers": 1,
           "decoder_attention_heads": 2, "decoder_ffn_dim": 48, "vocab_size": 60, "pad_token_id": 50, "dropout": 0.0,
           "bos_token_id": 50, "eos_token_id": 50, "decoder_start_token_id": 50, "encoder_layerdrop": 0.5}  # fmt: skip
HTSAT = {"patch_embeds_hidden_size": 16, "depths": [1, 1, 1, 1], "num_attention_heads": [2, 2, 2, 2],
         "hidden_size": 128, "projection_dim": 24, "num_hidden_layers": 4, "drop_path_rate": 0.0,
         "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # fmt: skip


def whisper(mels: int) -> tuple[Any, Any]:
    model = WhisperModel(WhisperConfig(**WHISPER, num_mel_bins=mels, max_source_positions=150))
    return model, WhisperFeatureExtractor(feature_size=mels, chunk_length=3)


def clap(fusion: bool) -> tuple[Any, Any]:
    model = ClapAudioModelWithProjection(ClapAudioConfig(**HTSAT, enable_fusion=fusion))
    for part in model.modules():  # statistics like those of a trained model
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2.0)
    extractor = ClapFeatureExtractor(truncation="fusion" if fusion else "rand_trunc", frequency_min=50)
    return model, extractor


MADE: dict[str, Callable[[], tuple[Any, Any]]] = {
    "ast": lambda: (
        ASTModel(ASTConfig(**TINY, max_length=204, hidden_dropout_prob=0.0)),
        ASTFeatureExtractor(max_length=204),
    ),
    "whisper80": lambda: whisper(80),
    "whisper128": lambda: whisper(128),
    "clap": lambda: clap(False),
    "clap-fused": lambda: clap(True),
    "hubert": lambda: (HubertModel(HubertConfig(**WAVES)), Wav2Vec2FeatureExtractor(do_normalize=False)),
    "wav2vec2": lambda: (Wav2Vec2Model(Wav2Vec2Config(**WAVES, **STABLE)), Wav2Vec2FeatureExtractor()),
    "wavlm": lambda: (WavLMModel(WavLMConfig(**WAVES)), Wav2Vec2FeatureExtractor()),
}
Saved = tuple[str, Path, Any, Any]


@pytest.fixture(scope="module", params=MADE)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    folder = tmp_path_factory.mktemp("hf") / request.param
    torch.manual_seed(0)
    model, extractor = MADE[request.param]()
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return request.param, folder, model.eval(), extractor


def only(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("saved", names, indirect=True)


def build(saved: Saved, **config: object) -> AudioEncoder:
    given = {"seconds": 2.0, "frozen_batchnorm": True, **config}
    tower = build_encoder("audio", TowerConfig(encoder=f"hf:{saved[1]}", **given))  # type: ignore[arg-type]
    assert isinstance(tower, AudioEncoder)
    return tower.eval()


def clips(rate: int, seconds: tuple[float, ...] = (2.0, 1.3, 0.41, 1.9)) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    swells = [torch.linspace(0.05, 0.5, round(rate * length)) for length in seconds]
    return [swell * torch.randn(len(swell), generator=generator) + 0.02 for swell in swells]


def padded(waves: list[Tensor], extra: int, filling: float) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(wave) for wave in waves])
    batch = torch.full((len(waves), int(lengths.max()) + extra), filling)
    for row, wave in enumerate(waves):
        batch[row, : len(wave)] = wave
    return batch, lengths


def extracted(extractor: Any, wave: Tensor) -> Any:
    np.random.seed(0)  # CLAP crops at random
    return extractor(wave.numpy(), sampling_rate=extractor.sampling_rate, return_tensors="pt")


def peers_vector(saved: Saved, wave: Tensor) -> Tensor:
    """The vector of transformers for one clip without padding."""
    name, _, model, extractor = saved
    inputs = extracted(extractor, wave)
    if name.startswith("whisper"):
        states = model.get_encoder()(inputs["input_features"]).last_hidden_state[0]
        covered = math.ceil(math.ceil(len(wave) / 160) / 2)
        return states[:covered].mean(0)
    if name.startswith("clap"):
        features = inputs["input_features"].float()
        return model(features, is_longer=torch.zeros(1, 1, dtype=torch.bool)).audio_embeds[0]
    if name == "ast":
        return model(inputs["input_values"]).pooler_output[0]
    return model(inputs["input_values"]).last_hidden_state[0].mean(0)


def as_front_end(saved: Saved, inputs: Any) -> Tensor:
    """The output of a feature extractor in the layout and units of our front ends."""
    name = saved[0]
    if name == "ast":
        return inputs["input_values"][0].T
    if name.startswith("whisper"):
        return inputs["input_features"][0]
    if name.startswith("clap"):
        return (inputs["input_features"][0, 0].float().T + 40) / 20
    return inputs["input_values"]


def test_front_ends_equal_the_feature_extractors(saved: Saved) -> None:
    tower = build(saved)
    waves = clips(tower.intake.rate)
    ours = tower.front_end(*padded(waves, 77, 0.5))
    assert tower.intake.rate == saved[3].sampling_rate
    for row, wave in enumerate(waves):
        expected = as_front_end(saved, extracted(saved[3], wave))
        frames = int(tower.front_end.frames(torch.tensor(len(wave))))
        width = min(expected.shape[1], ours.shape[2]) if saved[0].startswith("whisper") else frames
        torch.testing.assert_close(ours[row, :, :width], expected[:, :width], atol=1e-4, rtol=0)


@torch.no_grad()
def test_vectors_equal_transformers_on_single_clips(saved: Saved) -> None:
    tower = build(saved)
    waves = clips(tower.intake.rate)
    expected = torch.stack([peers_vector(saved, wave) for wave in waves])
    assert expected.std(0).mean() > 1e-3 * expected.abs().mean()  # equal vectors would prove nothing
    bound = 1e-4 * float(expected.abs().max())
    torch.testing.assert_close(tower(*padded(waves, 0, 0.0)), expected, atol=bound, rtol=0)
    torch.testing.assert_close(tower.embed(*padded(waves[1:3], 99, -0.5)), expected[1:3], atol=bound, rtol=0)
    assert tower.width == expected.shape[1]
    assert tower(*tower.dummy(torch.device("cpu"))).isfinite().all()


@only("ast", "whisper80", "clap", "hubert", "wav2vec2")
@torch.no_grad()
def test_a_clip_shorter_than_a_frame_has_a_vector(saved: Saved) -> None:
    tower = build(saved)
    wave = clips(tower.intake.rate, (0.002,))[0]
    alone = tower(wave[None], torch.tensor([len(wave)]))
    assert alone.isfinite().all()
    batch, lengths = padded([wave, *clips(tower.intake.rate)], 0, 0.3)
    torch.testing.assert_close(tower(batch, lengths)[:1], alone, atol=1e-5 * float(alone.abs().max()), rtol=0)


@torch.no_grad()
def test_tokens_are_states_in_time(saved: Saved) -> None:
    """Their mean over the clip is the vector. AST has its vector from class tokens, and tokens from patches."""
    name, tower = saved[0], build(saved)
    batch = padded(clips(tower.intake.rate), 0, 0.0)
    if name.startswith("clap"):
        with pytest.raises(UserError, match=r"model.audio.encoder: this tower has no tokens, only one vector"):
            tower.tokens(*batch)
        return
    gives_tokens(tower, rows_for(tower.intake))
    found = tower.tokens(*batch)
    for row, count in enumerate(found.counts.tolist()):
        if name != "ast":
            torch.testing.assert_close(found.tokens[row, :count].mean(0), found.vectors[row], atol=1e-5, rtol=0)
    torch.testing.assert_close(found.vectors, tower(*batch))
    if name == "ast":
        states = saved[2](extracted(saved[3], clips(tower.intake.rate)[0]).input_values).last_hidden_state[0, 2:]
        bands, times = 12, len(states) // 12
        torch.testing.assert_close(found.tokens[0], states.reshape(bands, times, -1).mean(0), atol=1e-4, rtol=0)
        assert found.counts[0] == times
        assert found.counts[2] < times / 3


def test_blocks_and_gradient_checkpointing(saved: Saved) -> None:
    tower = build(saved).train()
    waves = padded(clips(tower.intake.rate, (0.4, 0.3)), 0, 0.0)
    blocks = tower.blocks()
    held = {id(parameter): parameter for block in blocks for parameter in block}
    assert len(blocks) == (4 if saved[0].startswith("clap") else 2)
    assert len(held) == sum(len(block) for block in blocks)
    stem = {name for name, parameter in tower.named_parameters() if id(parameter) not in held}
    assert stem
    assert not any(".layers." in name or "projection.linear" in name for name in stem)
    target = torch.randn(2, tower.width)
    weights = [weight for weight in held.values() if weight.requires_grad]
    plain = torch.autograd.grad((tower(*waves) * target).sum(), weights, allow_unused=True)
    seen: list[int] = []
    part = next(module for module in tower.stack()[0].modules() if isinstance(module, torch.nn.LayerNorm))
    part.register_forward_hook(lambda *_: seen.append(1))
    if saved[0].startswith("clap"):
        with pytest.raises(UserError, match="ClapAudioModelWithProjection does not support it; leave it out"):
            tower.checkpoint_gradients()
        return
    tower.checkpoint_gradients()
    again = torch.autograd.grad((tower(*waves) * target).sum(), weights, allow_unused=True)
    assert len(seen) == 2
    for one, other in zip(plain, again, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_training_has_no_randomness(saved: Saved) -> None:
    """Dropped layers and masked frames would differ between ranks, and between both passes of a cached step."""
    tower = build(saved)
    waves = padded(clips(tower.intake.rate, (0.4, 0.3)), 0, 0.0)
    torch.testing.assert_close(tower.train()(*waves), tower.eval()(*waves), atol=1e-5, rtol=0)


@only("ast", "whisper80", "clap", "hubert")
def test_spectrogram_masks_change_the_masked_row_only(saved: Saved) -> None:
    tower = build(saved)
    waves = padded(clips(tower.intake.rate, (1.0, 1.0)), 0, 0.0)
    time, band, none = [0.0, 1.0, 0.2, 0.5], [0.2, 0.5, 0.0, 1.0], [0.0] * 4
    plain, *hidden = (tower(*waves, torch.tensor([[mask], [none]])) for mask in (none, time, band))
    for vectors, changes in zip(hidden, (True, not saved[0].startswith(("hubert", "wav"))), strict=True):
        assert bool((vectors[0] - plain[0]).abs().max() > 1e-4 * plain[0].abs().max()) is changes
        torch.testing.assert_close(vectors[1], plain[1])


@only("ast", "whisper80", "clap-fused", "hubert")
def test_autocast_stays_close_to_fp32(saved: Saved) -> None:
    tower = build(saved)
    waves = padded(clips(tower.intake.rate, (1.0, 0.7)), 0, 0.0)
    exact = tower(*waves)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = tower(*waves)
    cast.float().sum().backward()
    assert torch.nn.functional.cosine_similarity(cast.float(), exact).min() > 0.99


WITH_HEADS: dict[str, Callable[[], tuple[Any, str]]] = {
    "ast": lambda: (ASTForAudioClassification(ASTConfig(**TINY, max_length=204)), "audio_spectrogram_transformer"),
    "whisper80": lambda: (WhisperForConditionalGeneration(WhisperConfig(**WHISPER, max_source_positions=150)), "model"),
    "hubert": lambda: (HubertForCTC(HubertConfig(**WAVES)), "hubert"),
    "wav2vec2": lambda: (Wav2Vec2ForPreTraining(Wav2Vec2Config(**WAVES)), "wav2vec2"),
}


@pytest.mark.parametrize("name", WITH_HEADS)
def test_weights_load_from_models_with_task_heads(name: str, tmp_path: Path) -> None:
    """Most repositories have such models."""
    model, base = WITH_HEADS[name]()
    model.save_pretrained(tmp_path)
    MADE[name]()[1].save_pretrained(tmp_path)
    held = getattr(model, base)
    ours = build((name, tmp_path, None, None)).model.state_dict()
    expected = (held.get_encoder() if name.startswith("whisper") else held).state_dict()
    assert ours.keys() == expected.keys() - {"masked_spec_embed"}
    assert all(torch.equal(value, expected[key]) for key, value in ours.items())


@only("ast", "whisper80", "clap")
def test_windows_longer_than_the_model_supports_are_rejected(saved: Saved) -> None:
    with pytest.raises(UserError, match=r"model\.audio\.seconds is 11, but `hf:.*` reads at most .* s at a time"):
        build(saved, seconds=11.0)


@only("hubert")
def test_features_and_options_are_rejected(saved: Saved) -> None:
    with pytest.raises(UserError, match="has its own front end; remove `kaldi16k128`"):
        build(saved, features="kaldi16k128")
    with pytest.raises(UserError, match=r"unknown option `depth`; .* has no options; leave it out"):
        build(saved, options={"depth": 3})
    (saved[1] / "preprocessor_config.json").unlink()
    with pytest.raises(UserError, match=r"has no feature extractor \(preprocessor_config\.json\)"):
        build(saved)


@only("clap")
def test_frozen_batchnorm_is_required_for_training_only(saved: Saved) -> None:
    tower = build(saved, frozen_batchnorm=False)
    with pytest.raises(UserError, match="has BatchNorm, so vectors depend on the batch"):
        check_batchnorm(tower, TowerConfig(encoder="hf:clap"))


def test_other_audio_models_are_rejected(tmp_path: Path) -> None:
    Data2VecAudioModel(Data2VecAudioConfig(**TINY)).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="is a Data2VecAudioModel, which is not supported"):
        build_encoder("audio", TowerConfig(encoder=f"hf:{tmp_path}"))
