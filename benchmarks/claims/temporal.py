"""Which of two sounds comes first: learnt from clips of two sounds and from captions in the wrong order, as in T-CLAP.

Sounds are tones of 16 pitches, in noise, joined and worded as `sound_pairs` does. Every pair of pitches is tested in
both orders, so a tower that does not hear the order is right in half of the cases. Arms:

- `pairs`: a tower that reads the frames of a spectrogram in their order, trained on clips of two tones.
- `single`: the same tower, trained on clips of one tone, as a CLAP on clips of single events is.
- `frames`: a tower that takes the mean over the frames, trained as `pairs`.
- `plain`: as `pairs`, without captions in the wrong order.

Shapes: n clips, T audio samples, M mel bands, F frames, L words, d dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import permutations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, normalize

from tercet.benchmarks.claims.experiment.claim import Claim
from tercet.benchmarks.claims.experiment.training import Values, batch_of, fit_term
from tercet.data_pipelines.sample import Batch
from tercet.data_pipelines.sound_pairs.config import SoundPairsConfig
from tercet.data_pipelines.sound_pairs.waves import then
from tercet.data_pipelines.sound_pairs.wording import filled, worded
from tercet.models.audio_features import LogMel, build_front_end
from tercet.models.term_config import TermConfig

RATE, PITCHES = 16_000, 16
LONGEST, LEAD, FADE = 4_800, 1_600, 320  # audio samples: of a tone, before a clip, of a fade
WIDTH, DIM = 64, 32
THEN = ("{a} before {b}", "{b} after {a}")  # equally often, so that the first word is not the first sound
PAIRS = SoundPairsConfig(templates={"then": THEN}, wrong=("order",))
NAMES = [f"tone{pitch}" for pitch in range(PITCHES)]
WORDS = ["", *NAMES, *sorted({word for template in THEN for word in filled(template, "", "").split()})]
MOST_WORDS = max(len(template.split()) for template in THEN)

Pitches = tuple[int, ...]  # of one clip, in their order


class Clips:
    """Draws tones of random phase, tuning, length and noise."""

    def __init__(self, seed: int) -> None:
        self.dice = np.random.default_rng(seed)

    def pitches(self, sounds: int) -> Pitches:
        """Those of a clip of so many different tones."""
        return tuple(self.dice.permutation(PITCHES)[:sounds].tolist())

    def mel(self, clips: Sequence[Pitches]) -> Tensor:
        """Mel frames `[n, M, F]`. A clip starts anywhere in a tenth of a second of noise, which goes on behind it."""
        wave_nT = 0.02 * self.dice.standard_normal((len(clips), LEAD + 2 * LONGEST))
        for row, pitches in enumerate(clips):
            first_T, *more = map(self.tone, pitches)
            wave_T = then(first_T, more[0], gap=0, fade=0) if more else first_T
            start = int(self.dice.integers(LEAD))
            wave_nT[row, start : start + len(wave_T)] += wave_T
        frames: Tensor = front_end()(torch.from_numpy(wave_nT).float())
        return frames

    def tone(self, pitch: int) -> NDArray[np.float32]:
        """Fades in and out alike, so that no single frame shows whether it comes first."""
        length = int(self.dice.integers(LONGEST // 2, LONGEST))
        hertz = 200 * 1.2**pitch * 2 ** self.dice.uniform(-0.02, 0.02)
        turns_T = hertz * np.arange(length) / RATE + self.dice.random()
        ramp_T = np.minimum(1, np.minimum(np.arange(length), np.arange(length)[::-1]) / FADE)
        tone: NDArray[np.float32] = (0.1 * ramp_T * np.sin(2 * np.pi * turns_T)).astype(np.float32)
        return tone


@cache
def front_end() -> LogMel:
    return build_front_end("small16k64")


class Towers(nn.Module):
    """`ordered`: the audio tower reads the frames in their order; otherwise it takes their mean."""

    def __init__(self, seed: int, ordered: bool) -> None:
        super().__init__()
        self.ordered = ordered
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.frame = nn.Sequential(nn.Linear(front_end().mels, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))
            self.listen = nn.GRU(WIDTH, WIDTH, batch_first=True)
            self.hear = nn.Linear(WIDTH, DIM)
            self.word = nn.Embedding(len(WORDS), WIDTH, padding_idx=0)
            self.read = nn.GRU(WIDTH, WIDTH, batch_first=True)
            self.say = nn.Linear(WIDTH, DIM)

    def forward(self, values: Values) -> dict[str, Tensor]:
        return {
            name: normalize(self.audio(rows) if name == "audio" else self.text(rows), dim=1)
            for name, rows in values.items()
        }

    def audio(self, mel_nMF: Tensor) -> Tensor:
        frames_nFM = avg_pool1d(mel_nMF, 4).transpose(1, 2)
        frames = self.frame(frames_nFM)
        heard: Tensor = self.hear(self.listen(frames)[1][0] if self.ordered else frames.mean(dim=1))
        return heard

    def text(self, words_nL: Tensor) -> Tensor:
        said: Tensor = self.say(self.read(self.word(words_nL))[1][0])
        return said


def tokens(captions: Sequence[str]) -> Tensor:
    """The last words fill the row, so that the last state of the tower has read all."""
    rows = [[WORDS.index(word) for word in caption.split()] for caption in captions]
    return torch.tensor([[0] * (MOST_WORDS - len(row)) + row for row in rows])


@dataclass(frozen=True)
class Training:
    """`sounds`: tones of a clip. `wrong`: whether captions in the wrong order are extra negatives."""

    sounds: int
    ordered: bool
    wrong: bool
    steps: int = 300
    batch_size: int = 32
    lr: float = 3e-3

    def run(self, seed: int) -> dict[str, float]:
        clips, towers = Clips(seed), Towers(seed, self.ordered)
        against = {"audio": ("text.negative",)} if self.wrong else {}
        term = TermConfig(between=("audio", "text"), against=against)
        fit_term(towers, term, lambda step: self.draw(clips), self.steps, self.lr)
        with torch.no_grad():
            return self.measured(clips, towers)

    def draw(self, clips: Clips) -> Batch:
        """New clips. Those of the same tones in the same order are one group."""
        drawn = [clips.pitches(self.sounds) for _ in range(self.batch_size)]
        captions = [self.captions(clips, pitches) for pitches in drawn]
        values = {"audio": clips.mel(drawn), "text": tokens([right for right, _ in captions])}
        if self.wrong:
            values["text.negative"] = tokens([wrong for _, wrong in captions])
        batch = batch_of(values, torch.arange(self.batch_size))
        return replace(batch, groups=torch.tensor([int("".join(f"{one + 1:02d}" for one in some)) for some in drawn]))

    def captions(self, clips: Clips, pitches: Pitches) -> tuple[str, str]:
        """The right caption, and the one in the wrong order; of one tone, its name."""
        first, *more = [NAMES[pitch] for pitch in pitches]
        if not more:
            return first, first
        right, (wrong,) = worded(PAIRS, "then", first, more[0], clips.dice)
        return right, wrong["text"]

    def measured(self, clips: Clips, towers: Towers) -> dict[str, float]:
        """The right caption beats the one in the wrong order, in percent of all pairs in both orders. Ties do not."""
        pairs = list(permutations(range(PITCHES), 2))
        captions = [self.captions(clips, pair) for pair in pairs]
        audio_nd = towers({"audio": clips.mel(pairs)})["audio"]
        right_nd, wrong_nd = (towers({"text": tokens(some)})["text"] for some in zip(*captions, strict=True))
        beaten_n = ((audio_nd * right_nd).sum(dim=1) - (audio_nd * wrong_nd).sum(dim=1)) > 1e-6
        return {"order accuracy": 100 * float(beaten_n.double().mean())}


CLAIM = Claim(
    says="Clips of two sounds and captions in the wrong order teach a tower which sound comes first.",
    source="Yuan et al. 2024",
    measure="order accuracy",
    arms={
        "pairs": Training(sounds=2, ordered=True, wrong=True),
        "single": Training(sounds=1, ordered=True, wrong=False),
        "frames": Training(sounds=2, ordered=False, wrong=True),
        "plain": Training(sounds=2, ordered=True, wrong=False),
    },
)
