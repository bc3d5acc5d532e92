"""Features of voices beside those that synthetic voices were made with, and captions that follow from them."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tercet.command import main
from tercet.data_pipelines.voice.captions import WORDS, captions_of, in_words, limits_of
from tercet.data_pipelines.voice.measure import RATE, measure

Wave = NDArray[np.float32]


def voice(periods_C: NDArray[np.float64], heights_C: NDArray[np.float64] | None = None) -> Wave:
    """Cycles of harmonics with these lengths in samples, and these heights. Each has its peak at its beginning."""
    starts = np.concatenate([[0.0], np.cumsum(periods_C)])
    time_T = np.arange(int(starts[-1]))
    phase_T = 2 * np.pi * np.interp(time_T, starts, np.arange(len(starts)))
    wave_T = sum(np.cos(number * phase_T) / number for number in range(1, 7))
    heights_C = np.ones(len(periods_C)) if heights_C is None else heights_C
    return (0.1 * wave_T * np.interp(time_T, starts[:-1], heights_C)).astype(np.float32)


@pytest.mark.parametrize("pitch", [75.0, 120.0, 213.0, 440.0])
def test_a_steady_voice_has_its_pitch_and_neither_jitter_nor_shimmer(pitch: float) -> None:
    found = measure(voice(np.full(int(pitch), RATE / pitch)))
    assert found["pitch"] == pytest.approx(pitch, rel=0.002)
    assert found["pitch_variation"] < 0.002
    assert found["jitter"] < 0.002
    assert found["shimmer"] < 0.15
    assert found["seconds"] == pytest.approx(1.0, abs=0.01)


def test_jitter_and_shimmer_are_those_of_the_cycles() -> None:
    """A shift compares also what is beside the peaks, so that the periods are a little smoother."""
    dice = np.random.default_rng(0)
    periods_C = RATE / 150 * dice.uniform(0.97, 1.03, 150)
    heights_C = 10 ** (dice.uniform(-1, 1, 150) / 20)
    found = measure(voice(periods_C, heights_C))
    assert found["pitch"] == pytest.approx(150, rel=0.01)
    assert found["jitter"] == pytest.approx(np.abs(np.diff(periods_C)).mean() / periods_C.mean(), rel=0.2)
    assert found["shimmer"] == pytest.approx(np.abs(np.diff(20 * np.log10(heights_C))).mean(), rel=0.1)


def test_a_glide_has_the_variation_of_its_pitch() -> None:
    pitch_C = np.linspace(120, 180, 150)
    found = measure(voice(RATE / pitch_C))
    seconds_C = 1 / pitch_C  # a pitch counts as long as its cycle lasts
    mean = np.average(pitch_C, weights=seconds_C)
    deviation = np.sqrt(np.average((pitch_C - mean) ** 2, weights=seconds_C))
    assert found["pitch"] == pytest.approx(mean, rel=0.02)
    assert found["pitch_variation"] == pytest.approx(deviation / mean, rel=0.1)


def test_noise_and_silence_are_no_voices_and_pauses_do_not_count() -> None:
    noise_T = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    found = measure(noise_T)
    assert found.keys() == {"seconds", "loudness"}
    assert found["loudness"] == pytest.approx(-20, abs=0.1)
    assert measure(np.zeros(RATE, np.float32)) == {"seconds": 1.0, "loudness": -120.0}
    assert measure(np.zeros(5, np.float32))["loudness"] == -120.0
    said = voice(np.full(60, RATE / 120))
    parts = [np.zeros(RATE, np.float32), said, np.zeros(RATE, np.float32), -said]
    found = measure(np.concatenate(parts))
    assert found["pitch"] == pytest.approx(120, rel=0.01)
    assert found["jitter"] < 0.01


def test_words_follow_from_the_quantiles_of_the_dataset() -> None:
    voices = [{"pitch": 100.0 + 10 * number, "loudness": -20.0} for number in range(11)] + [{"loudness": -20.0}]
    limits = limits_of(voices)
    assert limits == {"pitch": (130.0, 170.0), "loudness": (-20.0, -20.0)}
    low, middle, high = WORDS["pitch"]
    found = [in_words(one, limits) for one in voices]
    assert [one[0] for one in found[:11]] == [low] * 4 + [middle] * 3 + [high] * 4
    assert found[11] == ["is of normal loudness"]


def test_captions_have_all_labels_and_one_to_four_features() -> None:
    phrases = [words[0] for words in WORDS.values()]
    labels = {"about.emotion": "happy", "age": 30}
    found = [
        caption
        for seed in range(2000)
        for caption in captions_of(phrases, labels, 1, np.random.default_rng(seed))
    ]  # fmt: skip
    assert all(caption.startswith("speaker ") for caption in found)
    assert all(caption.endswith(" and emotion is happy and age is 30") for caption in found)
    sizes = Counter(sum(phrase in caption for phrase in phrases) for caption in found)
    for size, share in zip((1, 2, 3, 4), (0.4, 0.3, 0.2, 0.1), strict=True):
        assert sizes[size] / 2000 == pytest.approx(share, abs=0.05)
    several = captions_of(phrases, {}, 20, np.random.default_rng(0))
    assert 10 < len(several) == len(set(several))
    assert captions_of([], {"a": 1}, 3, np.random.default_rng(0)) == ["speaker a is 1"]


def test_the_command_writes_a_sidecar(
    pack: Callable[..., Path], sound: Callable[..., bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pitches = [100, 150, 200, 250]
    items = [
        {
            "__key__": f"{pitch}",
            "flac": sound(voice(np.full(pitch // 4, RATE / pitch)), RATE),
            "json": json.dumps({"emotion": "sad" if pitch < 200 else "happy", "no": None}).encode(),
        }
        for pitch in pitches
    ]
    broken = {"__key__": "broken", "flac": b"fLaC"}
    data, out = pack("0.tar", [*items, broken, {"__key__": "mute", "txt": "x"}]), tmp_path / "voices.jsonl"
    words = ["data", "voices", str(data), "--out", str(out), "--labels", "emotion,no", "--workers", "1"]
    assert main([*words, "--count", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"rows": 4, "without": 2}
    first = out.read_bytes()
    rows = [json.loads(line) for line in first.splitlines()]
    assert [row["key"] for row in rows] == [str(pitch) for pitch in pitches]
    assert [row["voice"]["pitch"] for row in rows] == [pytest.approx(pitch, rel=0.01) for pitch in pitches]
    captions = [caption for row in rows for caption in row["voice_captions"]]
    assert not any("high pitch" in caption for caption in rows[0]["voice_captions"])
    assert all(caption.endswith("emotion is sad") for row in rows[:2] for caption in row["voice_captions"])
    assert 4 < len(captions) <= 12
    assert main([*words, "--count", "3"]) == 0
    assert out.read_bytes() == first
    assert "captions of 4 voices; 2 samples without a sound that can be read" in capsys.readouterr().out
    assert main(["data", "voices", str(pack("1.tar", [broken])), "--out", str(out), "--workers", "1"]) == 2


def test_fewer_than_one_worker_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "voices", "sounds", "--out", str(tmp_path / "voices.jsonl"), "--workers", "-1"]) == 2
    assert "--workers -1 is not a number of processes" in capsys.readouterr().err
