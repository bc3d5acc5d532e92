"""How specific a caption is: the mean inverse document frequency of its different words.

    idf(w) = ln(N / n_w)      N captions of the source, n_w of them with the word w

A caption of words that all captions have has 0, one of words that no other caption has has ln N. Words are counted over
the whole source first, in a second pass the captions get their values. Both passes read the table and not the data.

Words are counted by a hash in a fixed number of buckets, so memory does not grow with the data, and counts are exact
sums over any number of processes. Two words in one bucket count as one: of 100,000 different words, one in 40 shares
its bucket.

Shape letters: B buckets, u buckets of some captions that are not empty.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tercet.data_pipelines.curate.engines import arrow
from tercet.data_pipelines.curate.score_group import ScoreColumn, ScoreGroup
from tercet.data_pipelines.survey.content import content_hash
from tercet.data_pipelines.survey.wording import words

BUCKETS = 2**22
NAME = "specificity"
COLUMNS = {NAME: ScoreColumn("float32", "mean over its different words of ln(captions / captions with the word)")}


@dataclass(frozen=True)
class WordCounts:
    """How many captions there are, and how many of them have a word of each bucket."""

    captions: int
    count_B: NDArray[np.int64]

    def specificity(self, text: str) -> float | None:
        bucket_u = buckets(text)
        return float(np.log(self.captions / self.count_B[bucket_u]).mean()) if len(bucket_u) else None


def buckets(text: str) -> NDArray[np.int64]:
    """The different buckets of the words of a caption."""
    found = {content_hash(word.encode("utf-8", "surrogatepass")) % BUCKETS for word in words(text)}
    return np.array(sorted(found), dtype=np.int64)


@dataclass(frozen=True)
class CountWords:
    """Counts the captions of a part, and those with a word of each bucket that is not empty."""

    group: ScoreGroup
    source: str

    def __call__(self, ids: range) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
        texts = [text for text in self.group.read(self.source, ids)["text"].to_pylist() if text is not None]
        found = [np.empty(0, np.int64), *map(buckets, texts)]
        return len(texts), *np.unique(np.concatenate(found), return_counts=True)


@dataclass(frozen=True)
class AddSpecificity:
    """Writes a part of the draft with one more column into the group."""

    draft: ScoreGroup
    group: ScoreGroup
    source: str
    counts: WordCounts

    def __call__(self, ids: range) -> None:
        rows: Any = self.draft.read(self.source, ids)
        texts = rows["text"].to_pylist()
        values = [None if text is None else self.counts.specificity(text) for text in texts]
        self.group.write(self.source, ids, rows.append_column(NAME, arrow().array(values, "float32")))
