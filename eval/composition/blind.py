"""A baseline for composition that sees no picture and hears no sound: which caption reads more like the other captions?

Wrong captions are often unusual: their grammar or their facts give them away. Tests such as ARO can be solved so
(Hsieh et al., 2023; Tschannen et al., 2023). A result that is not above this baseline may come from language alone.

An n-gram model with interpolated absolute discounting (Ney et al., 1994) scores a caption by its mean log-probability
per word. It is fitted on the right captions of other groups, so that it never saw the caption that it judges.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import log

import torch
from torch import Tensor

from tercet.data_pipelines.captions.rules.sentence import normal
from tercet.data_pipelines.sample import Sample
from tercet.eval.ranking.ranking import TIE

NAME = "text alone"
ORDER = 3  # words of the longest n-gram
DISCOUNT = 0.75
FOLDS = 5
START, END = "<s>", "</s>"

Gram = tuple[str, ...]


@dataclass(frozen=True)
class Judgement:
    """Right and wrong captions of one item."""

    item: int
    right: tuple[str, ...]
    wrong: tuple[str, ...]


class NGrams:
    """Counts of words after up to two words before them."""

    def __init__(self, captions: Iterable[Sequence[str]]) -> None:
        self._count: Counter[Gram] = Counter()
        for words in captions:
            padded = _padded(words)
            for end in range(ORDER - 1, len(padded)):
                for length in range(ORDER):
                    self._count[tuple(padded[end - length : end + 1])] += 1

    @cached_property
    def _after(self) -> dict[Gram, tuple[int, int]]:
        """For each context: how many words follow it, and how many different ones."""
        found: defaultdict[Gram, list[int]] = defaultdict(lambda: [0, 0])
        for gram, count in self._count.items():
            found[gram[:-1]][0] += count
            found[gram[:-1]][1] += 1
        return {context: (total, different) for context, (total, different) in found.items()}

    def probability(self, word: str, before: Gram) -> float:
        """Of a word after these words. All words that were never seen share the place of one."""
        total, different = self._after.get(before, (0, 0))
        shorter = self.probability(word, before[1:]) if before else 1 / (different + 1)
        if not total:
            return shorter
        gram = (*before, word)
        kept = max(self._count[gram] - DISCOUNT, 0.0)
        return (kept + DISCOUNT * different * shorter) / total

    def score(self, words: Sequence[str]) -> float:
        """The mean log-probability of the words and of the end of the caption."""
        padded = _padded(words)
        places = range(ORDER - 1, len(padded))
        logs = [log(self.probability(padded[at], tuple(padded[at - ORDER + 1 : at]))) for at in places]
        return sum(logs) / len(logs)


def right_beats_wrong(judgements: Sequence[Judgement], samples: Sequence[Sample]) -> Tensor | None:
    """Whether the right captions of each judgement score higher than the wrong ones. A tie is wrong.

    None if a judgement has no right caption, or if all samples are of one group, so that no captions are left to learn
    from.
    """
    fold = folds([sample.group for sample in samples])
    if fold is None or not all(one.right for one in judgements):
        return None
    words = [[normal(caption) for caption in sample.text] for sample in samples]
    models = [
        NGrams(caption for other, captions in zip(fold, words, strict=True) if other != held for caption in captions)
        for held in range(max(fold) + 1)
    ]
    scores: dict[tuple[int, str], float] = {}

    def score(item: int, caption: str) -> float:
        if (fold[item], caption) not in scores:
            scores[fold[item], caption] = models[fold[item]].score(normal(caption))
        return scores[fold[item], caption]

    return torch.tensor(
        [
            min(score(one.item, right) for right in one.right) - max(score(one.item, wrong) for wrong in one.wrong)
            > TIE
            for one in judgements
        ]
    )


def folds(groups: Sequence[int]) -> list[int] | None:
    """The fold of each item. Groups stay whole and take turns. Returns None if there is only one group."""
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    if len(numbers) < 2:
        return None
    return [numbers[group] % min(FOLDS, len(numbers)) for group in groups]


def _padded(words: Sequence[str]) -> list[str]:
    return [*[START] * (ORDER - 1), *words, END]
