"""Samples made of two samples of a source: both sounds as one, with a caption that says in which order they come.

The partner of a sample, how the two are joined and which words say so depend on the source, the epoch and the sample,
as everything random about a sample. The partner is of another group and has another caption.

Shape letters: T audio samples.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b

import numpy as np

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.config import SplitConfig
from tercet.data_pipelines.decode.item import Decoder
from tercet.data_pipelines.fields import FieldSpec
from tercet.data_pipelines.plans.members import Members
from tercet.data_pipelines.sample import AudioIntake, Intake, Sample, TextIntake
from tercet.data_pipelines.sound_pairs.config import Join, SoundPairsConfig
from tercet.data_pipelines.sound_pairs.waves import Wave, at_once, then
from tercet.data_pipelines.sound_pairs.wording import filled, worded
from tercet.data_pipelines.source import Source
from tercet.data_pipelines.transforms.crop import View
from tercet.errors import UserError

TRIES = 32  # partners that are drawn before a sample is bad


def decoder_of(
    source: Source,
    intakes: Mapping[str, Intake],
    split: SplitConfig,
    exact_images: bool = False,
    further: Mapping[str, FieldSpec] | None = None,
    members: Members | None = None,
    kind: Callable[..., Decoder] = Decoder,
) -> Decoder:
    """The decoder of a source: of its samples, or of pairs of them. `members`: those that partners are drawn from."""
    if split.sound_pairs is None:
        return kind(source, intakes, split, exact_images, further)
    heard = {name: one for name, one in intakes.items() if isinstance(one, AudioIntake | TextIntake)}
    for name in ("audio", "text"):
        if name not in heard:
            raise UserError(f"sound_pairs: makes sounds with captions, so the model needs a tower of {name}")
    alone, events = kind(source, intakes, split, exact_images, further), kind(source, heard, split)
    return PairDecoder(alone, events, split.sound_pairs, further or {}, members or Members(source.counts))


class PairDecoder(Decoder):
    """Decodes a sample and its partner, and joins them. A share of the samples stays alone.

    The result is decoded like any sample whose files are a `.txt` with the caption, and a `.json` with these keys:
    `pair`, the caption again, which samples of one sound lack; `negatives`, the wrong captions; `join`; `of`, the keys
    of the two samples; `sounds`, the captions of the two, if one comes after the other; and `group`.
    """

    def __init__(
        self,
        alone: Decoder,
        events: Decoder,
        config: SoundPairsConfig,
        further: Mapping[str, FieldSpec],
        members: Members,
    ) -> None:
        """`alone` decodes samples as they are, `events` their sounds and captions only."""
        captions = {name: one for name, one in further.items() if one.modality == "text"}
        super().__init__(events.source, events.texts, SplitConfig(source="pairs"), further=captions)
        self._alone, self._events, self._config, self._members = alone, events, config, members
        self._fingerprint = events.source.fingerprint
        (self._intake,) = (one for one in events.intakes.values() if isinstance(one, AudioIntake))
        if config.gap[1] >= self._intake.seconds:
            heard = f"the {self._intake.seconds:g} s that the tower hears"
            raise UserError(f"sound_pairs.gap reaches {config.gap[1]:g} s of {heard}. Make it smaller")

    def __call__(self, ids: Sequence[int], views: Iterable[View]) -> list[Sample | BadSample]:
        drawn = [(id, view, view.dice(f"pair {id}")) for id, view in zip(ids, views, strict=True)]
        paired = [dice.random() < self._config.share for _, _, dice in drawn]
        alone = [one for one, chosen in zip(drawn, paired, strict=True) if not chosen]
        first = [one for one, chosen in zip(drawn, paired, strict=True) if chosen]
        plain = iter(self._alone([id for id, _, _ in alone], [view for _, view, _ in alone]))
        events = iter(self._events([id for id, _, _ in first], [view for _, view, _ in first]))
        return [
            self._pair(next(events), view, dice) if chosen else next(plain)
            for (_, view, dice), chosen in zip(drawn, paired, strict=True)
        ]

    def _pair(self, first: Sample | BadSample, view: View, dice: np.random.Generator) -> Sample | BadSample:
        if isinstance(first, BadSample):
            return first
        if first.audio is None or not first.text:
            return BadSample("sound_pairs: no sound or no caption")
        second = self._partner(first, view, dice)
        return self._joined(first, second, view, dice) if isinstance(second, Sample) else second

    def _partner(self, first: Sample, view: View, dice: np.random.Generator) -> Sample | BadSample:
        """Another sample of another group, with another caption. Broken ones are skipped."""
        own, count = self._members.number(first.id), len(self._members)
        for _ in range(TRIES if count > 1 else 0):
            other = self._members.id((own + 1 + int(dice.integers(count - 1))) % count)
            (second,) = self._events([other], [view.of("pair", 0, None)])
            if isinstance(second, BadSample) or second.audio is None or not second.text:
                continue
            if second.group != first.group and second.text[0].casefold() != first.text[0].casefold():
                return second
        return BadSample(f"sound_pairs: no sound with another group and caption among {TRIES}")

    def _joined(self, first: Sample, second: Sample, view: View, dice: np.random.Generator) -> Sample | BadSample:
        shares = [self._config.joins.get(join, 0.0) for join in JOINS]
        join = JOINS[int(np.searchsorted(np.cumsum(shares), dice.random() * sum(shares), side="right"))]
        wave_T = self._wave(join, first, second, dice)
        caption, wrong = worded(self._config, join, first.text[0], second.text[0], dice)
        meta = {
            "pair": caption,
            "negatives": wrong,
            "join": join,
            "of": [first.key, second.key],
            **({"sounds": [filled("{a}", one.text[0], "") for one in (first, second)]} if join == "then" else {}),
            "group": self._group_of(join, first, second),
        }
        files = {"txt": caption.encode(), "json": json.dumps(meta).encode()}
        said = self.sample(first.key, first.id, files, view)
        return replace(said, media={"audio": wave_T}) if isinstance(said, Sample) else said

    def _wave(self, join: Join, first: Sample, second: Sample, dice: np.random.Generator) -> Wave:
        """The two sounds as one that fits the window of the tower; what is longer is cut."""
        config, window = self._config, self._intake.window
        assert first.audio is not None
        assert second.audio is not None
        gap, level, place = dice.random(3).tolist()
        if join == "while":
            decibels = None if config.level is None else _between(config.level, level)
            return at_once(first.audio[:window], second.audio[:window], decibels, place)
        silence = round(self._intake.rate * _between(config.gap, gap))
        room = max((window - silence) // 2, 1)
        return then(first.audio[:room], second.audio[:room], silence, round(self._intake.rate * config.fade))

    def _group_of(self, join: Join, first: Sample, second: Sample) -> int:
        """The same for samples of the same two groups; of sounds at once, in either order."""
        parts = [f"{self._fingerprint} {one.id}" if one.group < 0 else str(one.group) for one in (first, second)]
        named = "\n".join([join, *(sorted(parts) if join == "while" else parts)])
        return int.from_bytes(blake2b(named.encode(), digest_size=8).digest(), "big") >> 1


JOINS: tuple[Join, ...] = ("then", "while")


def _between(ends: tuple[float, float], share: float) -> float:
    return ends[0] + share * (ends[1] - ends[0])
