"""CWCL beside LiT: the tower of pictures is locked and knows classes, and the tower of texts learns to fit it.

Zero-shot accuracy: how often a new picture is closest to its class, whose vector is the mean of texts without details.

With the kernel `linear`, R@1 falls, as CWCL pulls samples of one class together. The kernel `sharp` keeps it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from tercet.benchmarks.claims.experiment.claim import Claim
from tercet.benchmarks.claims.experiment.synthetic import DIM, HIDDEN, Pairs, Towers, recall
from tercet.benchmarks.claims.experiment.training import fit

CLASSES, PROMPTS, CANDIDATES = 20, 20, 1_000


class TextTower(nn.Module):
    """A trained tower for texts. Pictures come as vectors of a locked tower."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.towers = Towers(seed)

    def forward(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"image": values["image"], "text": self.towers({"text": values["text"]})["text"]}


@dataclass(frozen=True)
class Training:
    """`details`: how much samples of a class differ. The same `samples` come again and again."""

    objective: Mapping[str, Any]
    samples: int = 1_000
    details: float = 0.7
    noise: float = 1.0
    batch_size: int = 128
    steps: int = 300
    lr: float = 2e-3

    def run(self, seed: int) -> dict[str, float]:
        pairs, tower = Pairs(seed, self.noise), TextTower(seed)
        prototype_ch = torch.randn(CLASSES, HIDDEN, generator=pairs.random)
        space_hd = torch.randn(HIDDEN, DIM, generator=pairs.random)

        def vectors(hidden_nh: Tensor) -> dict[str, Tensor]:
            return {"image": normalize(hidden_nh @ space_hd, dim=1), "text": pairs.of(hidden_nh)["text"]}

        def samples(n: int) -> tuple[Tensor, dict[str, Tensor]]:
            class_n = torch.randint(CLASSES, (n,), generator=pairs.random)
            details_nh = self.details * torch.randn(n, HIDDEN, generator=pairs.random)
            return class_n, vectors(prototype_ch[class_n] + details_nh)

        _, known = samples(self.samples)

        def draw(step: int) -> dict[str, Tensor]:
            chosen = torch.randperm(self.samples, generator=pairs.random)[: self.batch_size]
            return {name: values_nd[chosen] for name, values_nd in known.items()}

        fit(tower, self.objective, draw, self.steps, self.lr)
        class_n, new = samples(CANDIDATES)
        with torch.no_grad():
            prompts_pd = tower(vectors(prototype_ch.repeat(PROMPTS, 1)))["text"]
            text_nd = tower(new)["text"]
        class_cd = prompts_pd.view(PROMPTS, CLASSES, DIM).mean(dim=0)
        right_n = (new["image"] @ normalize(class_cd, dim=1).T).argmax(dim=1) == class_n
        return {
            "zero-shot accuracy": 100 * float(right_n.double().mean()),
            "image→text R@1": recall(new["image"], text_nd),
        }


CLAIM = Claim(
    says="With a locked tower and a learned temperature, CWCL is less than 2 points worse than InfoNCE, if at all.",
    source="Srinivasa et al. 2023",
    measure="zero-shot accuracy",
    arms={
        "linear": Training({"name": "cwcl"}),
        "lit": Training({"name": "infonce"}),
        "sharp": Training({"name": "cwcl", "kernel": "sharp"}),
    },
    gain=(-2, None),
)
