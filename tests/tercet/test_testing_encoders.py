"""The checks of an encoder: sound ones pass, and each way to be wrong has its sentence."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tercet.data_pipelines.sample import ArrayIntake, ImageIntake
from tercet.models.encoders.encoder import Encoded, Encoder
from tercet.plugins import load_plugins
from tercet.testing import check_encoder

TOWER = {"width": 32, "heads": 2}
SERIES = ArrayIntake((12, 3), ragged=True)


class Mean(Encoder):
    """The mean over the valid part of a series, or over a picture's pixels, through one layer."""

    modality = "image"
    intake: ImageIntake | ArrayIntake = ImageIntake((4, 4))
    width = 5

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.checkpointing = nn.Linear(3, 5), False

    def pooled(self, values: Tensor, lengths: Tensor | None) -> Tensor:
        if values.ndim == 4:
            return values.float().mean((2, 3)) / 255
        assert lengths is not None
        valid = (torch.arange(values.shape[1]) < lengths[:, None])[..., None]
        return (values * valid).sum(1) / lengths[:, None]

    def forward(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        vectors: Tensor = self.layer(self.pooled(values, lengths))
        return vectors

    def blocks(self) -> list[list[nn.Parameter]]:
        return [[*self.layer.parameters()]]

    def checkpoint_gradients(self) -> None:
        self.checkpointing = True

    def dummy(self, device: torch.device) -> tuple[Tensor, Tensor | None]:
        if isinstance(self.intake, ArrayIntake):
            return torch.zeros(1, *self.intake.shape), torch.ones(1, dtype=torch.int64)
        return torch.zeros(1, 3, 4, 4, dtype=torch.uint8), None


class Series(Mean):
    modality = "audio"
    intake = SERIES


class Unnamed(Mean):
    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(1.0))


class Wide(Mean):
    width = 6


class Infinite(Mean):
    def forward(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        return super().forward(values, lengths) / 0


class Constant(Mean):
    def forward(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        return super().forward(0 * values, lengths)


class Restless(Mean):
    def forward(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        return super().forward(values, lengths) + torch.randn(1)


class Batchwise(Mean):
    def forward(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        vectors = super().forward(values, lengths)
        return vectors - vectors.mean(0) if len(vectors) > 1 else vectors


class Endless(Series):
    def pooled(self, values: Tensor, lengths: Tensor | None) -> Tensor:
        return values.mean(1)


class Narrow(Mean):
    def embed(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self(values, lengths)[:, :2]


class Twice(Mean):
    def blocks(self) -> list[list[nn.Parameter]]:
        return 2 * super().blocks()


class Foreign(Mean):
    def blocks(self) -> list[list[nn.Parameter]]:
        return [[nn.Parameter(torch.zeros(2))]]


class Blockless(Mean):
    def blocks(self) -> list[list[nn.Parameter]]:
        return []


class Crowded(Mean):
    def dummy(self, device: torch.device) -> tuple[Tensor, Tensor | None]:
        return torch.zeros(2, 3, 4, 4, dtype=torch.uint8), None


class Short(Mean):
    """Rows of no content take a way of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.extra = nn.Parameter(torch.ones(5))

    def forward(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        vectors = super().forward(values, lengths)
        return vectors if int(values.max()) == 0 else vectors + self.extra


class Locked(Mean):
    def forward(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        return super().forward(values, lengths).detach().requires_grad_()


class Forgetful(Mean):
    def forward(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        vectors = super().forward(values, lengths)
        return 2 * vectors if self.checkpointing else vectors


class Elsewhere(Mean):
    """Its tokens come from another pass than its vectors."""

    def tokens(self, values: Tensor, lengths: Tensor | None = None) -> Encoded:
        return Encoded(2 * self(values), self(values)[:, None], torch.ones(len(values), dtype=torch.int64))


class Mixed(Mean):
    """Each token has seen the other rows."""

    def tokens(self, values: Tensor, lengths: Tensor | None = None) -> Encoded:
        vectors = self(values)
        return Encoded(vectors, (vectors - vectors.mean(0))[:, None], torch.ones(len(values), dtype=torch.int64))


UNEQUAL = """
import torch.distributed as dist
from tercet.models.encoders.encoder import FAMILIES
from tercet.models.encoders.small import SmallImage

class Unequal(SmallImage):
    def forward(self, values, lengths=None):
        crowd = dist.is_initialized() and dist.get_world_size() > 1
        return super().forward(values // 2 if crowd else values)

@FAMILIES["image"].register("unequal")
def build(name, config):
    return Unequal(config, width=32, heads=2)
"""


@pytest.mark.parametrize("encoder", [Mean, Series])
def test_correct_encoders_pass(encoder: type[Encoder]) -> None:
    check_encoder(encoder())


@pytest.mark.long
@pytest.mark.parametrize(
    ("encoder", "modality", "config"),
    [
        ("small:image", "image", {"size": 32, "options": TOWER}),
        ("small:audio", "audio", {"features": "small16k64", "seconds": 0.5, "options": TOWER}),
        ("small:text", "text", {"options": TOWER}),
    ],
)
def test_the_small_towers_pass_on_two_processes(encoder: str, modality: str, config: dict[str, object]) -> None:
    check_encoder(encoder, modality, **config)


@pytest.mark.long
def test_an_encoder_of_a_plugin_whose_vectors_depend_on_the_batch_size_fails(tmp_path: Path) -> None:
    plugin = tmp_path / "unequal_among_many.py"
    plugin.write_text(UNEQUAL, encoding="utf-8")
    load_plugins([plugin])
    with pytest.raises(AssertionError, match="a step on two processes, one of which has no rows"):
        check_encoder("unequal:any", "image")


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (Unnamed, "the parameter `temperature` has no dimension, and cannot be sharded"),
        (Wide, r"`forward` returns \[5, 5\] for 5 rows, not \[rows, width\] = \[5, 6\]"),
        (Infinite, "`forward` returns vectors that are not finite"),
        (Constant, "`forward` gives rows of different content one and the same vector"),
        (Restless, "the same rows give other vectors the second time"),
        (Batchwise, "a row's vector depends on the rows beside it"),
        (Endless, "what lies beyond a row's length changes its vector"),
        (Narrow, r"`embed` returns \[5, 2\], not \[rows, width\]"),
        (Twice, "`blocks` names a parameter twice"),
        (Foreign, "`blocks` names a parameter that is not the encoder's own"),
        (Blockless, "the parameters of at least one block"),
        (Crowded, "`dummy` gives 2 rows, not one"),
        (Short, "the dummy row reaches fewer parameters than a real one, as `extra`"),
        (Locked, "no parameter gets a gradient"),
        (Elsewhere, "`tokens` gives other vectors than `forward`"),
        (Mixed, "a row's tokens depend on the rows beside it"),
        (Forgetful, "with `checkpoint_gradients` the gradients are others"),
    ],
)
def test_each_mistake_gives_its_own_error(kind: type[Encoder], sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_encoder(kind())
