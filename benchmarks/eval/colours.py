"""What all sides of a parity row evaluate: pictures of six colours with two captions each, and a small random model."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from tercet.api.evaluate import evaluate
from tercet.api.model import Model
from tercet.api.results import Results
from tercet.eval.retrieval.retrieval import RetrievalTask
from tercet.models.multimodal import build_model
from tercet.models.space import SpaceConfig

COLOURS = ("red", "green", "blue", "brown", "pink", "violet")
TEMPLATES = ("a photo of one {} thing.", "this is {}")
RECALL_AT = (1, 5, 10)
SPACE = {
    "model": {"dim": 32, "image": {"encoder": "small:image", "size": 32}, "text": {"encoder": "small:text"}},
    "pairs": {"image-text": 1.0},
}


@dataclass(frozen=True)
class Colours:
    """The data, in a folder, and the model."""

    folder: Path
    count: int

    @cached_property
    def pictures(self) -> list[Image.Image]:
        random = np.random.default_rng(0)
        found = []
        for label in self.labels:
            pixels = random.integers(0, 90, (36, 44, 3), dtype=np.uint8)
            pixels[..., label % 3] += np.uint8(60 + 60 * (label // 3))
            found.append(Image.fromarray(pixels))
        return found

    @property
    def labels(self) -> list[int]:
        """Some classes have more pictures than others."""
        return [int(number**0.5) % len(COLOURS) for number in range(self.count)]

    @property
    def captions(self) -> list[tuple[str, str]]:
        named = [(COLOURS[label], number) for number, label in enumerate(self.labels)]
        return [(f"{name}, number {number}", f"the {7 * number}th {name} thing") for name, number in named]

    @cached_property
    def model(self) -> Model:
        config = SpaceConfig.model_validate(SPACE)
        return Model(build_model(config.model, config.terms, seed=0), "random")

    @cached_property
    def results(self) -> Results:
        """What tercet measures."""
        for number, (picture, captions) in enumerate(zip(self.pictures, self.captions, strict=True)):
            picture.save(self.folder / f"{number:05}.png")
            (self.folder / f"{number:05}.txt").write_text("\n".join(captions), encoding="utf-8")
        further = ("MRR", "mAP", "R-precision", "nDCG@10")
        task = RetrievalTask(
            kind="retrieval", name="retrieval", title="Retrieval", recall_at=RECALL_AT, further=further
        )
        prompts = [template.format("{class}") for template in TEMPLATES]
        return evaluate(self.model, [task, "zero_shot"], self.folder, COLOURS, prompts)

    @cached_property
    def vectors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures, captions and classes, as `embed` computes them."""
        prompts = [template.format(name) for name in COLOURS for template in TEMPLATES]
        found = self.model.embed(image=self.pictures, text=[text for pair in self.captions for text in pair])
        means = self.model.embed(text=prompts).text.view(len(COLOURS), len(TEMPLATES), -1).mean(dim=1)
        return found.image, found.text, means / means.norm(dim=1, keepdim=True)

    def ours(self, names: dict[str, str]) -> dict[str, float]:
        """Results under the names of a peer."""
        return {theirs: self.results[ours].value for theirs, ours in names.items()}
