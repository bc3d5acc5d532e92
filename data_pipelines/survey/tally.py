"""Statistics of some samples, in bounded memory. The tallies of parts merge into that of the whole.

Values and counts have names such as `image.width`, `audio.seconds`, `text.words`, `bad`.
"""

from tercet.data_pipelines.survey.sketch import Bottom, Distribution, Frequent

COUNTERS = 20_000  # of each kind of things that are counted
CAPTIONS = 5_000  # kept to be looked at


class Tally:
    def __init__(self) -> None:
        self.samples = 0
        self.values: dict[str, Distribution] = {}
        self.counts: dict[str, Frequent] = {}
        self.captions: Bottom[str] = Bottom(CAPTIONS)

    def measure(self, name: str, value: float) -> None:
        self.values.setdefault(name, Distribution()).add(value)

    def count(self, name: str, *things: str) -> None:
        self.counts.setdefault(name, Frequent(COUNTERS)).add(things)

    def merge(self, other: "Tally") -> None:
        self.samples += other.samples
        for name, values in other.values.items():
            self.values.setdefault(name, Distribution()).merge(values)
        for name, counts in other.counts.items():
            self.counts.setdefault(name, Frequent(COUNTERS)).merge(counts)
        self.captions.merge(other.captions)
