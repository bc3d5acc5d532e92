"""LAION-CLAP: checkpoints in the format of its authors, and feature fusion, beside transformers' CLAP."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import (
    AutoTokenizer,
    ClapAudioConfig,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapTextConfig,
    RobertaConfig,
    RobertaForMaskedLM,
)

from tercet.data_pipelines.sample import AudioIntake
from tercet.errors import UserError
from tercet.models.config import TowerConfig
from tercet.models.encoders import build_encoder
from tercet.models.encoders.hf.clap import ClapAudio
from tercet.models.encoders.hf.clap_features import ClapFusion, chunk_starts, middle_starts
from tercet.models.interop.laion_clap import pretrained_laion_clap
from tercet.training.pretrained import load_model
from tests.models.test_interop_transformers import TEXTS, write_tokenizer

RATE = 48_000
HTSAT: dict[str, Any] = {"patch_embeds_hidden_size": 16, "depths": [1, 1, 2, 1], "num_attention_heads": [2, 2, 2, 4]}
ROBERTA: dict[str, Any] = {"vocab_size": 9, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1,
                           "intermediate_size": 48, "max_position_embeddings": 18}  # fmt: skip
IN_A_BLOCK = {
    "attention.output.dense": "attn.proj", "intermediate.dense": "mlp.fc1", "output.dense": "mlp.fc2",
    "layernorm_before": "norm1", "layernorm_after": "norm2",
}  # fmt: skip
Saved = tuple[Path, ClapModel, ClapFeatureExtractor]


def laion_names(state: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The weights of transformers' CLAP under the names of LAION-CLAP, written from the lists of both."""
    for scale in ("logit_scale_a", "logit_scale_t"):
        yield scale, state[scale]
    for modality in ("audio", "text"):
        for place, number in (("linear1", 0), ("linear2", 2)):
            for kind in ("weight", "bias"):
                yield f"{modality}_projection.{number}.{kind}", state[f"{modality}_projection.{place}.{kind}"]
    for name, value in state.items():
        if name.startswith("text_model.") and not name.endswith("_ids"):
            yield name.replace("text_model.", "text_branch."), value
    encoder = "audio_model.audio_encoder."
    for name in [name.removeprefix(encoder) for name in state if name.startswith(encoder)]:
        value, parts = state[encoder + name], name.split(".")
        if parts[0] == "batch_norm":
            yield "audio_branch.bn0." + parts[1], value
        elif "blocks" not in parts:
            yield "audio_branch." + name, value
        else:
            block, inside = "audio_branch." + ".".join(parts[:4]), ".".join(parts[4:])
            if parts[4:6] == ["attention", "self"] and parts[6] in ("query", "key", "value"):
                if parts[6] == "query":
                    both = [state[encoder + name.replace(".query.", f".{one}.")] for one in ("query", "key", "value")]
                    yield f"{block}.attn.qkv.{parts[7]}", torch.cat(both)
            elif parts[4:6] == ["attention", "self"]:
                yield f"{block}.attn.{parts[6]}", value
            else:
                place, _, kind = inside.rpartition(".")
                yield f"{block}.{IN_A_BLOCK[place]}.{kind}", value


def write_checkpoint(model: ClapModel, path: Path) -> None:
    """As the authors' training writes it: of DDP, with parts that only its training uses, and scores from NumPy."""
    further = {
        "audio_branch.spectrogram_extractor.stft.conv_real.weight": torch.zeros(513, 1, 1024),
        "audio_branch.logmel_extractor.melW": torch.zeros(513, 64),
        "audio_branch.layers.0.blocks.1.attn_mask": torch.zeros(4, 64, 64),
        "audio_branch.tscam_conv.weight": torch.zeros(527, 128, 2, 3),
        "audio_branch.head.weight": torch.zeros(527, 527),
        "audio_transform.sequential.0.weight": torch.zeros(24, 24),
        "text_branch.embeddings.position_ids": torch.arange(18)[None],
    }
    state = {f"module.{name}": value for name, value in (*laion_names(model.state_dict()), *further.items())}
    torch.save({"epoch": 15, "name": "clap", "optimizer": {}, "state_dict": state, "best": np.float64(0.9)}, path)


@pytest.fixture(scope="module", params=[False, True], ids=["unfused", "fused"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    folder = tmp_path_factory.mktemp("laion")
    torch.manual_seed(0)
    fusion = {"enable_fusion": True, "fusion_type": "aff_2d"} if request.param else {}
    audio = ClapAudioConfig(**HTSAT, **fusion, hidden_size=128, num_hidden_layers=4)
    text = ClapTextConfig(**ROBERTA, bos_token_id=0, pad_token_id=1, eos_token_id=3)
    model = ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=24)).eval()
    model.logit_scale_a.data.fill_(3.1)
    for part in model.modules():  # statistics like those of a trained model
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2.0)
    write_checkpoint(model, folder / "clap.pt")
    write_tokenizer(folder)
    return folder, model, ClapFeatureExtractor(truncation="fusion" if request.param else "rand_trunc", frequency_min=50)


def clips(*seconds: float) -> list[Tensor]:
    """A chord and some noise that swells: loud and quiet bands."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for length in seconds:
        time_T = torch.arange(round(RATE * length)) / RATE
        noise_T = 1e-4 * torch.randn(len(time_T), generator=generator) * torch.linspace(0.05, 1, len(time_T))
        found.append(noise_T + 0.2 * torch.sin(2500 * time_T) * torch.sin(3 * time_T))
    return found


def padded(waves: list[Tensor]) -> tuple[Tensor, Tensor]:
    return torch.nn.utils.rnn.pad_sequence(waves, batch_first=True), torch.tensor([len(wave) for wave in waves])


def peers_features(extractor: ClapFeatureExtractor, wave: Tensor, draws: tuple[float, ...]) -> Tensor:
    """`[C, F, M]` in decibels, with the parts of a long clip where `draws` says."""
    drawn = iter(draws)
    with patch.object(np.random, "choice", lambda places: places[int(next(drawn) * len(places))]):
        found = extractor(wave.double().numpy(), sampling_rate=RATE, return_tensors="pt")
    features: Tensor = found["input_features"][0]
    return features


@torch.no_grad()
def test_vectors_of_a_published_checkpoint_equal_transformers(saved: Saved) -> None:
    folder, peer, extractor = saved
    ours = load_model(f"laion_clap:{folder / 'clap.pt'}")
    waves = clips(10, 3.7, 23.4) if peer.config.audio_config.enable_fusion else clips(10, 3.7)
    features = torch.stack([peers_features(extractor, wave, (0.5, 0.5, 0.5)) for wave in waves]).float()
    longer = torch.tensor([[len(wave) > 10 * RATE] for wave in waves])
    heard = peer.get_audio_features(input_features=features, is_longer=longer)
    tokens = AutoTokenizer.from_pretrained(folder)(TEXTS, return_tensors="pt", padding=True)
    read = peer.get_text_features(tokens["input_ids"], attention_mask=tokens["attention_mask"])
    heard, read = (getattr(one, "pooler_output", one) for one in (heard, read))
    heard, read = (torch.nn.functional.normalize(one, dim=1) for one in (heard, read))
    audio = torch.nn.functional.normalize(ours.tower("audio").embed(*padded(waves)), dim=1)
    assert (heard[0] - heard[1]).abs().max() > 1e-3
    torch.testing.assert_close(audio, heard, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.embed_text(TEXTS), read, atol=1e-5, rtol=0)
    assert float(ours.head.temperature("audio-text")[0]) == pytest.approx(np.exp(3.1))


@torch.no_grad()
def test_a_folder_of_transformers_gives_the_same_vectors(saved: Saved, tmp_path: Path) -> None:
    """Also of clips that are longer than the window, which a model with fusion reads as a whole by default."""
    folder, peer, extractor = saved
    for part in (peer, extractor, AutoTokenizer.from_pretrained(folder)):
        part.save_pretrained(tmp_path)
    ours, theirs = load_model(f"laion_clap:{folder / 'clap.pt'}"), load_model(f"hf:{tmp_path}")
    batch = padded(clips(12.3, 3.7))
    towers = [model.tower("audio") for model in (ours, theirs)]
    found, expected = (tower.embed(*batch) for tower in towers)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    fused = peer.config.audio_config.enable_fusion
    assert [tower.intake.seconds for tower in towers] == [30.0 if fused else 10.0] * 2
    assert [tower.fuses for tower in towers] == [fused] * 2


def test_the_shapes_of_a_checkpoint_tell_the_architecture(saved: Saved, capsys: pytest.CaptureFixture[str]) -> None:
    folder, peer, _ = saved
    fused = peer.config.audio_config.enable_fusion
    found = pretrained_laion_clap(f"laion_clap:{folder / 'clap.pt'}")
    audio, text = found.model["audio"], found.model["text"]
    assert audio["options"] == HTSAT | {"projection_dim": 24} | ({"fusion": True} if fused else {})
    assert audio["seconds"] == (30.0 if fused else 10.0)
    assert text["options"] == ROBERTA | {"projection_dim": 24, "tokenizer": str(folder)}
    own = load_model(found.source).state_dict()
    unused = {"logit_scale_t", "audio_transform.sequential.0.weight", "audio_branch.head.weight"}
    assert found.weights().keys() == own.keys() | unused | {"audio_branch.tscam_conv.weight"}
    assert "not used, because the model has no place for it: `audio_branch`" in capsys.readouterr().err


def test_other_files_are_rejected(saved: Saved, tmp_path: Path) -> None:
    folder, _, _ = saved
    with pytest.raises(UserError, match=r"there is no file .*; name a checkpoint, such as laion_clap:630k-best\.pt"):
        load_model(f"laion_clap:{tmp_path / 'none.pt'}")
    with pytest.raises(UserError, match=r"is a checkpoint of LAION-CLAP; write laion_clap:.*clap\.pt"):
        load_model(str(folder / "clap.pt"))
    held = torch.load(folder / "clap.pt", weights_only=False)
    bert = {name: value.repeat(2, 1) if "token_type" in name else value for name, value in held["state_dict"].items()}
    torch.save({"state_dict": bert}, tmp_path / "bert.pt")
    with pytest.raises(UserError, match="its text tower is not RoBERTa, which is the only kind that is supported"):
        load_model(f"laion_clap:{tmp_path / 'bert.pt'}")
    pann = {name: value for name, value in held["state_dict"].items() if "patch_embed" not in name}
    torch.save({"state_dict": pann}, tmp_path / "pann.pt")
    with pytest.raises(UserError, match="its audio tower is not HTSAT"):
        load_model(f"laion_clap:{tmp_path / 'pann.pt'}")


@pytest.fixture(scope="module")
def tower() -> ClapAudio:
    options = {**HTSAT, "projection_dim": 8, "fusion": True, "drop_path_rate": 0.0}
    config = TowerConfig(encoder="laion_clap:HTSAT-tiny", seconds=25, frozen_batchnorm=True, options=options)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        built = build_encoder("audio", config)
    assert isinstance(built, ClapAudio)
    return built


def test_fused_features_equal_transformers(tower: ClapAudio) -> None:
    """Of short clips, of one that is less than a frame too long, and of long ones with parts in any place."""
    extractor = ClapFeatureExtractor(truncation="fusion", frequency_min=50)
    waves = clips(10, 4.2, 10.005, 10.02, 24.7)
    draws = torch.tensor([[0.5, 0.5, 0.5]] * 3 + [[0.1, 0.9, 0.3], [0.0, 0.999, 0.4]])
    assert isinstance(tower.front_end, ClapFusion)
    ours = tower.front_end(*padded(waves), draws)
    for row, wave in enumerate(waves):
        expected = (peers_features(extractor, wave, tuple(draws[row].tolist())).transpose(1, 2) + 40) / 20
        torch.testing.assert_close(ours[row].double(), expected.double(), atol=1e-5, rtol=0)


def test_parts_begin_in_thirds_as_those_of_numpy() -> None:
    for count in (1, 2, 3, 4, 101):
        thirds = [part if len(part) else np.zeros(1) for part in np.array_split(np.arange(count), 3)]
        for draw in (0.0, 0.5, 0.99):
            assert chunk_starts(count, [draw] * 3) == [int(part[int(draw * len(part))]) for part in thirds]


@torch.no_grad()
def test_a_fused_clip_has_one_vector_in_evaluation_and_others_by_its_draws(tower: ClapAudio) -> None:
    batch = padded(clips(24.7, 4.2))
    tower.eval()
    alone = tower.embed(batch[0][:1], batch[1][:1])
    torch.testing.assert_close(tower.embed(*batch)[:1], alone, atol=1e-6, rtol=0)
    centre, other = (tower(*batch, None, torch.full((2, 3), place)) for place in (0.5, 0.05))
    torch.testing.assert_close(centre[:1], alone, atol=1e-6, rtol=0)
    assert (centre - other)[0].abs().max() > 1e-5
    assert torch.equal(centre[1], other[1])
    assert tower.intake == AudioIntake(RATE, 25, draws=3)


@torch.no_grad()
def test_what_a_graph_computes_for_all_rows_at_once_equals_one_clip_after_another(tower: ClapAudio) -> None:
    """Also of a clip that is less than a frame too long, and where no clip is long."""
    tower.eval()
    for seconds in ((24.7, 4.2, 10.005, 10.02, 13.3), (3.1, 0.2)):
        batch = padded(clips(*seconds))
        expected = tower.embed(*batch)
        with patch.object(torch.compiler, "is_exporting", lambda: True):
            torch.testing.assert_close(tower(*batch), expected, atol=1e-4 * float(expected.abs().max()), rtol=0)
        assert torch.equal(tower.embed(*batch), expected)
    for count in (1, 2, 3, 4, 101):
        starts = middle_starts(torch.tensor([[count], [7]]))
        assert [int(start[0]) for start in starts] == chunk_starts(count, [0.5] * 3)


def test_the_fusion_has_a_gradient_without_long_clips(tower: ClapAudio) -> None:
    """It is zero, and that of all other weights is that of the tower without the extra row."""
    waves = padded(clips(4.2, 3.0))
    weights = [weight for weight in tower.parameters() if weight.requires_grad]
    found = {}
    for mode in (True, False):
        tower.train(mode)
        vectors = tower(*waves)
        found[mode] = torch.autograd.grad(vectors.square().sum(), weights, allow_unused=True)
    tower.eval()
    fusion = {id(weight) for name, weight in tower.named_parameters() if "fusion_model" in name or "mel_conv2d" in name}
    for weight, trained, plain in zip(weights, found[True], found[False], strict=True):
        assert trained is not None
        if id(weight) in fusion:
            assert plain is None
            assert not trained.any()
        else:
            torch.testing.assert_close(trained, plain, atol=1e-5 * float(plain.abs().max() + 1e-6), rtol=0)


def test_masks_hide_the_same_share_of_all_four_log_mels(tower: ClapAudio) -> None:
    waves = padded(clips(24.7))
    masks = torch.tensor([[[0.0, 1.0, 0.5, 1.0]]])
    hidden, _ = tower._fused_features(*waves, masks, None)
    assert not hidden[..., 501:].any()
    assert hidden[..., :500].abs().min() > 0


def test_a_new_text_tower_takes_the_weights_of_a_roberta(tmp_path: Path) -> None:
    sizes = {**ROBERTA, "max_position_embeddings": 18, "type_vocab_size": 1, "pad_token_id": 1}
    roberta = RobertaForMaskedLM(RobertaConfig(**sizes))
    roberta.save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    options = {**ROBERTA, "projection_dim": 8, "pretrained": str(tmp_path)}
    tower = build_encoder("text", TowerConfig(encoder="laion_clap:roberta", options=options))
    own = tower.model.text_model.state_dict()  # type: ignore[union-attr,operator]
    for name, value in roberta.roberta.state_dict().items():
        assert torch.equal(own[name], value)
    assert tower.intake.shape == (16,)
    assert tower.width == 8
    with pytest.raises(UserError, match=r"do not fit the tower: size mismatch .* choose a RoBERTa of the same size"):
        build_encoder("text", TowerConfig(encoder="laion_clap:roberta", options=options | {"vocab_size": 12}))


TINY = "laion_clap:HTSAT-tiny"


@pytest.mark.parametrize(
    ("modality", "change", "message"),
    [
        ("audio", {"encoder": "laion_clap:HTSAT-huge"}, "LAION-CLAP has no audio tower `HTSAT-huge`; did you mean"),
        ("text", {"encoder": "laion_clap:bert"}, "LAION-CLAP has no text tower `bert`"),
        ("audio", {"encoder": TINY, "options": {"depth": 2}}, "unknown option `depth`; did you mean `depths`"),
        ("audio", {"encoder": TINY, "options": {"mlp_ratio": "x"}}, r"model\.audio\.options: .*mlp_ratio"),
        ("audio", {"encoder": TINY, "options": {"depths": 3}}, r"model\.audio\.options: .*depths"),
        (
            "audio",
            {"encoder": TINY, "options": {"num_attention_heads": [4]}},
            "heads has 1 number, but depths has 4",
        ),
        (
            "text",
            {"encoder": "laion_clap:roberta", "options": {**ROBERTA, "num_attention_heads": 7}},
            r"model\.text\.options: .*is not a multiple of the number of attention heads \(7\)",
        ),
        ("audio", {"encoder": TINY, "seconds": 11, "options": HTSAT}, "reads at most 10 s at a time"),
    ],
)
def test_mistakes_in_a_recipe(modality: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_encoder(modality, TowerConfig.model_validate(change))
