"""Captions of voices, from labels and from features in words, as ParaCLAP's (Jing et al. 2024).

A feature is low, high or in between, compared with the other voices of the dataset: the lowest and the highest 30 % of
the values. A caption has all labels of a sample and one to four of its features, in any order; fewer are likelier.
"""

from collections.abc import Mapping, Sequence

import numpy as np

LOW, HIGH = 0.3, 0.7  # quantiles
SHARES = (0.4, 0.3, 0.2, 0.1)  # of captions with one, two, three and four features
WORDS: dict[str, tuple[str, str, str]] = {
    "pitch": ("has a low pitch", "has a normal pitch", "has a high pitch"),
    "pitch_variation": ("has a stable pitch", "has a normal pitch variation", "has a varying pitch"),
    "loudness": ("is quiet", "is of normal loudness", "is loud"),
    "jitter": ("has a low jitter", "has a normal jitter", "has a high jitter"),
    "shimmer": ("has a low shimmer", "has a normal shimmer", "has a high shimmer"),
    "seconds": ("speaks for a short time", "speaks for an average time", "speaks for a long time"),
}
Limits = Mapping[str, tuple[float, float]]


def limits_of(voices: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Two numbers for each feature: values up to the first are low, values from the second on are high. Voices may
    lack features."""
    values = {name: [voice[name] for voice in voices if name in voice] for name in WORDS}
    return {name: tuple(np.quantile(found, (LOW, HIGH)).tolist()) for name, found in values.items() if found}


def in_words(voice: Mapping[str, float], limits: Limits) -> list[str]:
    """One phrase for each feature of a voice."""
    return [WORDS[name][_bin(voice[name], *limits[name])] for name in WORDS if name in voice and name in limits]


def _bin(value: float, low: float, high: float) -> int:
    if low == high:
        return 1
    return 0 if value <= low else 2 if value >= high else 1


def captions_of(
    phrases: Sequence[str], labels: Mapping[str, object], count: int, dice: np.random.Generator
) -> list[str]:
    """Up to `count` different captions, such as *speaker is loud and has a high pitch and emotion is happy*."""
    said = [f"{name.rpartition('.')[2]} is {value}" for name, value in labels.items()]
    found: dict[str, None] = {}
    for _ in range(count):
        size = min(1 + int(dice.choice(len(SHARES), p=SHARES)), len(phrases))
        chosen = [phrases[place] for place in dice.permutation(len(phrases))[:size].tolist()]
        found[" and ".join([*chosen, *said])] = None
    return [f"speaker {caption}" for caption in found]
