"""selection.jsonl in the run's folder records which samples each step kept.

A line holds the step, the number of near ties, the ids of the kept samples in the order of the batch, and `mask`. The
mask has one bit for each drawn sample, in hexadecimal digits: ids alone are ambiguous, because a super-batch may hold
the same sample twice. A resumed run deletes the lines after its checkpoint, because it repeats these steps.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SELECTED = "selection.jsonl"


@dataclass(frozen=True)
class Selected:
    """The samples that one step kept, over all ranks. The first step is 1."""

    step: int
    near_ties: int
    mask: str
    ids: list[int]

    @classmethod
    def of(cls, step: int, near_ties: int, kept_N: NDArray[np.bool_], id_N: NDArray[np.int64]) -> "Selected":
        return cls(step, near_ties, np.packbits(kept_N).tobytes().hex(), id_N[kept_N].tolist())

    def kept(self) -> NDArray[np.bool_]:
        """One value for each drawn sample: whether the step kept it. Up to seven values of padding follow."""
        return np.unpackbits(np.frombuffer(bytes.fromhex(self.mask), np.uint8)).astype(bool)

    def append_to(self, path: Path) -> None:
        with path.open("a", encoding="utf-8") as lines:
            print(json.dumps(asdict(self)), file=lines)


def read_selected(path: Path) -> Iterator[Selected]:
    """Yields all steps, except a last one whose line is incomplete."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):
                yield Selected(**json.loads(line))
