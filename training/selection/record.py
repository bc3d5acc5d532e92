"""selection.jsonl in the run's folder: which samples each step kept. A resumed run forgets the steps after its
checkpoint, because it takes them again.

A line holds the step, the near ties, the ids of the kept samples in the order of the batch, and `mask`: a bit for each
drawn sample as hexadecimal digits, because a super-batch may hold the same sample twice.
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
    """What one step kept over all ranks. The first step is 1."""

    step: int
    near_ties: int
    mask: str
    ids: list[int]

    @classmethod
    def of(cls, step: int, near_ties: int, kept_N: NDArray[np.bool_], id_N: NDArray[np.int64]) -> "Selected":
        return cls(step, near_ties, np.packbits(kept_N).tobytes().hex(), id_N[kept_N].tolist())

    def kept(self) -> NDArray[np.bool_]:
        """Which of the drawn samples were kept; up to seven more at the end are padding."""
        return np.unpackbits(np.frombuffer(bytes.fromhex(self.mask), np.uint8)).astype(bool)

    def append_to(self, path: Path) -> None:
        with path.open("a", encoding="utf-8") as lines:
            print(json.dumps(asdict(self)), file=lines)


def read_selected(path: Path) -> Iterator[Selected]:
    """All steps but a last one whose line was cut short."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):
                yield Selected(**json.loads(line))
