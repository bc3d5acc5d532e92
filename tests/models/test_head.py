"""The head: bounded temperatures, and projections to unit vectors."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from tercet.errors import UserError
from tercet.models.head import Head, Temperature, module_name
from tercet.models.losses import build_objective
from tercet.models.term_config import ObjectiveConfig

LOW, HIGH = 1.0, 100.0


def temperature(scale: float) -> Temperature:
    return Temperature(build_objective(ObjectiveConfig(name="infonce", scale=scale)))  # type: ignore[call-arg]


def scale_of(one: Temperature) -> float:
    return float(one()[0].detach())


@pytest.mark.parametrize(
    ("scale", "slope", "passes"),
    [
        (HIGH, -1.0, False),  # descent would raise it above the bound
        (HIGH, 1.0, True),
        (LOW, 1.0, False),  # descent would lower it below the bound
        (LOW, -1.0, True),
        (10.0, 1.0, True),
        (10.0, -1.0, True),
    ],
)
def test_gradient_at_a_bound(scale: float, slope: float, passes: bool) -> None:
    """∂(slope·s)/∂log s = slope·s, but zero if it pushes beyond a bound."""
    one = temperature(scale)
    value, _ = one()
    (slope * value).sum().backward()
    assert one.log_scale.grad is not None
    expected = slope * scale if passes else 0.0
    torch.testing.assert_close(float(one.log_scale.grad), expected, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize(("overshoot", "bound"), [(2 * math.log(HIGH), HIGH), (-3.0, LOW)])
def test_a_value_beyond_its_bounds_can_return(overshoot: float, bound: float) -> None:
    one = temperature(10.0)
    with torch.no_grad():
        one.log_scale.fill_(overshoot)
    assert scale_of(one) == pytest.approx(bound)
    inward = 1.0 if bound == HIGH else -1.0
    descent = torch.optim.SGD(one.parameters(), lr=0.01 / bound)
    steps = 0
    while not LOW < scale_of(one) < HIGH:
        assert steps < 1000
        descent.zero_grad()
        (inward * one()[0]).sum().backward()
        descent.step()
        steps += 1
    assert steps > 10


def test_a_value_stays_at_its_bound() -> None:
    one = temperature(90.0)
    descent = torch.optim.SGD(one.parameters(), lr=1e-3)
    for _ in range(50):
        descent.zero_grad()
        (-one()[0]).sum().backward()
        descent.step()
    assert scale_of(one) == pytest.approx(HIGH)
    assert float(one.log_scale.detach()) < math.log(HIGH) + 0.1


def test_projections_and_identities_give_unit_vectors_in_fp32() -> None:
    objectives = {"image-text": build_objective(ObjectiveConfig(name="sigmoid"))}
    head = Head({"image": 5, "text": None}, 4, objectives)
    features = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        image, text = head("image", features), head("text", features[:, :4].bfloat16())
    torch.testing.assert_close(image, normalize(features @ head.projections["image"].weight.T, dim=1))
    torch.testing.assert_close(text, normalize(features[:, :4].bfloat16().float(), dim=1))
    scale, bias = head.temperature("image-text")
    assert bias is not None
    torch.testing.assert_close(torch.cat([scale, bias]), torch.tensor([10.0, -10.0]))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"scale": 200.0}, r"objective.scale 200 is not within objective.bounds \[1, 100\]"),
        ({"bounds": [0.0, 10.0], "scale": 5.0}, r"not within objective.bounds \[0, 10\]"),
        ({"scale": "warm"}, r"objective.scale = 'warm'"),
        ({"gama": 2}, r"has no option `gama`"),
    ],
)
def test_wrong_options_of_an_objective_are_rejected(options: dict[str, object], error: str) -> None:
    with pytest.raises(UserError, match=error):
        build_objective(ObjectiveConfig(name="infonce", **options))  # type: ignore[arg-type]


def test_a_name_that_torch_reserves_is_refused() -> None:
    assert module_name("image.local-text") == "image_local-text"
    for name in ("half", "keys"):
        with pytest.raises(UserError, match=f"^terms: torch does not allow the name `{name}` of a term"):
            module_name(name)
