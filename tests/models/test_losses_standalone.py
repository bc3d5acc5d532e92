"""The standalone loss equals open_clip's losses on the whole batch, in one process and under DDP."""

import copy
import math

import numpy as np
import pytest
import torch
from open_clip.loss import ClipLoss, SigLipLoss
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from torch.nn.parallel import DistributedDataParallel

from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.losses.standalone import loss
from tercet.testing import on_ranks

ROWS, DIM = 12, 6
PEERS = {"infonce": ClipLoss, "sigmoid": SigLipLoss}


class Towers(nn.Module):
    """Two projections, a scale and a bias."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text = nn.Linear(8, DIM, dtype=torch.float64), nn.Linear(5, DIM, dtype=torch.float64)
        self.log_scale = nn.Parameter(torch.tensor(math.log(7.0), dtype=torch.float64))
        self.bias = nn.Parameter(torch.tensor(-2.0, dtype=torch.float64))

    def forward(self, pictures: Tensor, texts: Tensor) -> tuple[Tensor, ...]:
        image, text = (normalize(rows, dim=1) for rows in (self.image(pictures), self.text(texts)))
        return image, text, self.log_scale.exp(), self.bias


def inputs() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    return tuple(torch.randn(ROWS, width, generator=random, dtype=torch.float64) for width in (8, 5))  # type: ignore[return-value]


def gradients(model: nn.Module) -> list[Tensor]:
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def under_ddp(world: World, name: str) -> tuple[float, list[Tensor]]:
    model = DistributedDataParallel(Towers())
    own = [rows[world.rank :: world.size] for rows in inputs()]  # interleaved, so that no rank has consecutive rows
    total = loss(name, tile=5)(*model(*own))
    assert isinstance(total, Tensor)
    total.backward()  # type: ignore[no-untyped-call]
    return float(total), gradients(model.module)


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("ranks", [1, 2])
def test_ddp_gets_the_gradient_of_the_whole_batch(name: str, ranks: int) -> None:
    model = Towers()
    whole = PEERS[name]()(*model(*inputs()))
    whole.backward()
    for value, found in on_ranks(under_ddp, ranks, name):
        assert value == pytest.approx(float(whole.detach()), rel=1e-12)
        for one, other in zip(found, gradients(model), strict=False):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)


def test_accepts_the_arguments_of_clip_loss() -> None:
    """Called as in the training loop of open_clip, it returns what `ClipLoss` returns."""
    image, text, scale, _ = Towers()(*inputs())
    given = {"image_features": image, "text_features": text, "logit_scale": scale, "output_dict": True}
    ours, peer = loss("infonce")(**given), ClipLoss()(**given)
    assert ours.keys() == peer.keys()
    torch.testing.assert_close(ours["contrastive_loss"], peer["contrastive_loss"])
    torch.testing.assert_close(loss("infonce")(image=image, text=text, scale=scale), peer["contrastive_loss"])


def test_three_fields_sum_the_losses_of_three_pairs() -> None:
    fields = {name: normalize(torch.randn(ROWS, DIM), dim=1).requires_grad_() for name in ("image", "audio", "text")}
    scale = torch.tensor([5.0], requires_grad=True)
    other = {name: copy.deepcopy(value) for name, value in {**fields, "scale": scale}.items()}
    loss("infonce", tile=4)(**fields, scale=scale).backward()
    for one, two in (("image", "audio"), ("image", "text"), ("audio", "text")):
        ClipLoss()(other[one], other[two], other["scale"]).backward()
    for name, value in {**fields, "scale": scale}.items():
        torch.testing.assert_close(value.grad, other[name].grad)


def test_items_of_one_group_do_not_repel_each_other() -> None:
    image, text, scale, _ = (value.detach().requires_grad_() for value in Towers()(*inputs()))
    groups = torch.tensor([0, 0, 1, 2, 3, 4, 4, 4, 5, 6, 7, 8])
    found = torch.autograd.grad(
        loss("infonce", tile=5)(image=image, text=text, scale=scale, groups=groups), (image, text)
    )
    mask = (groups[:, None] == groups) & ~torch.eye(ROWS, dtype=torch.bool)
    logits = (scale * image @ text.T).masked_fill(mask, -torch.inf)
    target = torch.arange(ROWS)
    naive = (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
    torch.testing.assert_close(found, torch.autograd.grad(naive, (image, text)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_computes_in_fp32_under_autocast(dtype: torch.dtype) -> None:
    """Gradients have the dtype of the rows, and no intermediate result is rounded to it."""
    image, text = (normalize(torch.randn(300, 32), dim=1).to(dtype).requires_grad_() for _ in range(2))
    scale = torch.tensor(50.0, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        total = loss("infonce", tile=64)(image=image, text=text, scale=scale)
    found = torch.autograd.grad(total, (image, text, scale))
    exact = [value.detach().double().requires_grad_() for value in (image, text, scale)]
    expected = torch.autograd.grad(ClipLoss()(*exact), exact)
    assert total.dtype == torch.float32
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(
            one, other.to(one.dtype), rtol=2e-2 if one.dtype == torch.bfloat16 else 1e-4, atol=1e-6
        )


@pytest.mark.parametrize("other", [torch.float64, torch.bfloat16, torch.float16])
def test_each_gradient_has_the_dtype_of_its_field(other: torch.dtype) -> None:
    """Under autocast, towers may return different dtypes. The computation rounds to neither."""
    image, text = (normalize(torch.randn(40, 8), dim=1).to(dtype) for dtype in (torch.float32, other))
    scale = torch.tensor([[9.0]])
    given = [value.requires_grad_() for value in (image, text, scale)]
    found = torch.autograd.grad(loss("infonce", tile=7)(*given), given)
    exact = [value.detach().double().requires_grad_() for value in given]
    expected = torch.autograd.grad(ClipLoss()(*exact[:2], exact[2].squeeze()), exact)
    for value, one, true in zip(given, found, expected, strict=True):
        assert one.dtype == value.dtype
        torch.testing.assert_close(one, true.to(one.dtype), rtol=1e-2 if one.dtype.itemsize == 2 else 1e-4, atol=1e-6)


def test_scale_bias_and_groups_may_be_numbers_lists_or_tensors() -> None:
    image, text = (normalize(torch.randn(6, 4), dim=1) for _ in range(2))
    values = [loss("sigmoid")(image, text, scale, bias=-3.0) for scale in (5, 5.0, np.float64(5), torch.ones(1, 1) * 5)]
    assert all(value.equal(values[0]) and value.dtype == torch.float32 for value in values)
    listed, held = [0, 0, 1, 1, 2, 2], torch.arange(6) // 2
    assert loss("infonce")(image, text, 5.0, groups=listed).equal(loss("infonce")(image, text, 5.0, groups=held))


def test_scaling_the_loss_scales_its_gradients() -> None:
    image, text, scale, _ = (value.detach().requires_grad_() for value in Towers()(*inputs()))
    once = torch.autograd.grad(loss("infonce")(image, text, scale), (image, scale))
    thrice = torch.autograd.grad(3 * loss("infonce")(image, text, scale), (image, scale))
    for one, three in zip(once, thrice, strict=True):
        torch.testing.assert_close(3 * one, three)


SIDE = torch.zeros(3, 2)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"image": SIDE}, "a loss needs two or more fields and a `scale`"),
        ({"image": SIDE, "text": None, "scale": 1.0}, "needs two or more fields and a `scale`"),
        ({"image": SIDE, "text": SIDE}, "needs two or more fields and a `scale`"),
        ({"image": SIDE, "text": torch.zeros(4, 2), "scale": 1.0}, r"but got image \[3, 2\], text \[4, 2\]"),
        ({"image": SIDE, "text": torch.zeros(3, 5), "scale": 1.0}, r"but got image \[3, 2\], text \[3, 5\]"),
        ({"image": SIDE, "text": SIDE.to("meta"), "scale": 1.0}, "several devices: image cpu, text meta. Move"),
        ({"image": SIDE, "text": SIDE.numpy(), "scale": 1.0}, r"`text` of the loss is of type ndarray. Pass a tensor"),
        ({"image": SIDE, "text": SIDE, "scale": torch.ones(2)}, r"`scale` of the loss has shape \[2\]. Pass one"),
        ({"image": SIDE, "text": SIDE, "scale": 1.0, "bias": SIDE}, r"`bias` of the loss has shape \[3, 2\]. Pass one"),
        ({"image": SIDE, "image_features": SIDE, "scale": 1.0}, "the loss got `image` twice"),
        ({"image": SIDE, "text": SIDE, "scale": 1.0, "groups": [1, 2]}, r"\[2\]. Pass one number for each of the 3"),
    ],
)
def test_invalid_inputs_are_rejected(arguments: dict[str, Tensor], error: str) -> None:
    with pytest.raises(UserError, match=error):
        loss("infonce")(**arguments)


def test_wrong_arguments_are_rejected() -> None:
    with pytest.raises(UserError, match="only image_features, text_features, logit_scale, logit_bias by position"):
        loss("infonce")(SIDE, SIDE, 1.0, None, True)
    with pytest.raises(UserError, match="did you mean `infonce`"):
        loss("infonec")
    with pytest.raises(
        UserError, match=r"the loss needs `teacher` of text. Pass it: extra=\{'text': \{'teacher': …\}\}"
    ):
        loss("soft")(image=SIDE, text=SIDE, scale=1.0, extra={"image": {"teacher": SIDE}})
    with pytest.raises(UserError, match="`tile` of the loss is 0"):
        loss("infonce", tile=0)
