"""A tower of several audio towers: its vectors are those of the parts, fused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from tercet.errors import UserError
from tercet.models.config import TowerConfig
from tercet.models.encoders import Encoder, build_encoder
from tercet.models.tuning.locking import lock
from tests.models.test_encoders_hf_audio import WAVES, clips, padded

SPECTROGRAM: dict[str, Any] = {"encoder": "timm:convnext_atto", "features": "ast16k128",
                               "options": {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16]}}  # fmt: skip


@pytest.fixture(scope="module")
def hubert(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder: Path = tmp_path_factory.mktemp("hubert")
    torch.manual_seed(0)
    HubertModel(HubertConfig(**WAVES)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(folder)
    return {"encoder": f"hf:{folder}"}


def fused(name: str, *parts: dict[str, Any], **options: Any) -> Encoder:
    config = TowerConfig(encoder=f"fused:{name}", seconds=1.0, options={"parts": list(parts), "width": 24, **options})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_encoder("audio", config).eval()


def parts_of(tower: Encoder) -> list[Any]:
    return list(tower.parts)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["concat", "gate"])
@torch.no_grad()
def test_vectors_follow_from_those_of_the_parts(name: str, hubert: dict[str, Any]) -> None:
    """Beside the formulas written out, for single clips."""
    tower = fused(name, SPECTROGRAM, hubert)
    waves = clips(16_000, (1.0, 0.6))
    found = tower(*padded(waves, 0, 0.0))
    for row, wave in enumerate(waves):
        x, y = (part(wave[None])[0] for part in parts_of(tower))
        both, weights = torch.cat([x, y]), dict(tower.fusion.named_parameters())
        if name == "concat":
            inner = torch.nn.functional.gelu(weights["layers.0.weight"] @ both + weights["layers.0.bias"])
            expected = weights["layers.2.weight"] @ inner + weights["layers.2.bias"]
        else:
            a, b = (
                weights[f"projections.{place}.weight"] @ vector + weights[f"projections.{place}.bias"]
                for place, vector in enumerate((x, y))
            )
            gate = weights["gate.weight"] @ both + weights["gate.bias"]
            share = torch.sigmoid(gate[:24] - gate[24:])
            expected = share * a + (1 - share) * b
        torch.testing.assert_close(found[row], expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_long_clip_has_the_mean_of_its_windows(hubert: dict[str, Any]) -> None:
    tower = fused("concat", SPECTROGRAM, hubert)
    (wave,) = clips(16_000, (1.5,))
    windows = torch.stack([wave[:16_000], wave[8_000:]])
    expected = (tower(windows) * torch.tensor([[2 / 3], [1 / 3]])).sum(0)
    torch.testing.assert_close(tower.embed(wave[None])[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("unlocked", [1, 2])
def test_the_fusion_trains_alone_or_with_the_last_part(unlocked: int, hubert: dict[str, Any]) -> None:
    tower = fused("gate", SPECTROGRAM, hubert).train()
    lock(tower, unlocked)
    tower(*padded(clips(16_000, (0.5, 0.4)), 0, 0.0)).sum().backward()
    trained = {name.split(".")[0] + name.split(".")[1] for name, weight in tower.named_parameters() if has(weight)}
    assert trained == {"fusionprojections", "fusiongate"} | ({"parts1"} if unlocked == 2 else set())


def has(weight: Tensor) -> bool:
    return weight.grad is not None and bool(weight.grad.any())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gated", {}, "no fusion is named `gated`; did you mean `gate`"),
        ("gate", {"part": []}, "unknown option `part`; did you mean `parts`"),
        ("gate", {"parts": [SPECTROGRAM]}, r"options\.parts: is not a list of two or more towers"),
        ("gate", {"parts": [SPECTROGRAM, {"features": "x"}]}, r"parts\.1: has no `encoder`"),
        ("gate", {"parts": [SPECTROGRAM | {"unlocked": 0}] * 2}, r"parts\.0: unknown key `unlocked`"),
        ("gate", {"parts": [SPECTROGRAM] * 2, "width": 0}, r"width: 0 is not a number of dimensions"),
        ("gate", {"parts": [SPECTROGRAM, SPECTROGRAM | {"features": "clap48k64"}]}, "they read 16,000 and 48,000"),
    ],
)
def test_mistakes_in_a_recipe(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_encoder("audio", TowerConfig(encoder=f"fused:{name}", seconds=0.5, options=options))
