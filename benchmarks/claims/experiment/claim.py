"""The form of a claim: a sentence, and arms that are trained with the same seeds.

The gain is the difference of the first two arms, counted so that more is better. A claim says which range it lies in:

- `(0, None)`: the first arm is better (the default).
- `(-2, None)`: the first arm is at most 2 worse.
- `(-3, 3)`: the arms are equal but for 3.

@dataclass(frozen=True)
class Toy:
    decoupled: bool
    steps: int = 300

    def run(self, seed: int) -> dict[str, float]:
        ...  # trains with this seed, and returns what it measured
        return {"R@1": 61.5}

CLAIM = Claim(
    says="The decoupled loss raises R@1 at batch 32.",
    source="Yeh et al. 2022",
    measure="R@1",
    arms={"with": Toy(decoupled=True), "without": Toy(decoupled=False)},
)
"""

from collections.abc import Mapping
from dataclasses import Field, dataclass
from typing import Any, ClassVar, Literal, Protocol


class Arm(Protocol):
    """A frozen dataclass. Its fields are the settings of the arm: whatever changes the numbers belongs there."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def run(self, seed: int) -> dict[str, float]:
        """Trains once and returns the numbers. Only the seed and the settings may change them."""


@dataclass(frozen=True)
class Claim:
    """The claim is that the gain in `measure` lies in a range. Arms after the first two are shown beside them."""

    says: str  # one sentence
    source: str  # the paper
    measure: str  # one of the numbers that a run returns
    arms: Mapping[str, Arm]
    better: Literal["higher", "lower"] = "higher"
    gain: tuple[float, float | None] = (0, None)
    runs: str | None = None  # the file of its finished runs; claims that name the same share their equal arms

    def to_json(self) -> dict[str, Any]:
        beyond = {"source": self.source, "measure": self.measure, "better": self.better, "gain": list(self.gain)}
        return {"claim": self.says, **beyond}
