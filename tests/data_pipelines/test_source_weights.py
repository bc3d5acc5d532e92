"""Weights of sources by a rule, against the closed form p ∝ n^(1/T)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.configs.base import build
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.plans.mixture import apportion
from tercet.data_pipelines.plans.schedule import make_schedule
from tercet.data_pipelines.plans.source_weights import weighed
from tercet.errors import UserError
from tests.data_pipelines.memory import Captions

SIZES = {"small": 20, "middle": 180, "large": 2000}


def data(weights: Any, **train: Any) -> DataConfig:
    sources = {name: {"source": name, **train.get(name, {})} for name in SIZES}
    return build(DataConfig, {"train": sources, "weights": weights}, lambda key: "recipe")


def shares(config: DataConfig) -> list[float]:
    sources = {name: Captions(name, [count]) for name, count in SIZES.items()}
    plan = make_schedule(config, sources, 64, 3).plan
    total = sum(share.weight for share in plan.shares)
    return [share.weight / total for share in plan.shares]


@pytest.mark.parametrize(
    ("weights", "power"), [("uniform", 0.0), ("size", 1.0), ({"temperature": 3.0}, 1 / 3), ({"temperature": 0.5}, 2.0)]
)
def test_the_plan_has_the_weights_of_the_closed_form(weights: Any, power: float) -> None:
    expected = np.array(list(SIZES.values()), dtype=float) ** power
    assert shares(data(weights)) == pytest.approx(expected / expected.sum(), rel=1e-12)


def test_a_list_says_how_many_samples_a_source_has(tmp_path: Path) -> None:
    listed = tmp_path / "list.csv"
    listed.write_text("id,count\n3,2\n5,118\n")
    config = data("size", large={"list": str(listed)})
    assert shares(config) == pytest.approx([20 / 320, 180 / 320, 120 / 320], rel=1e-12)


@given(st.dictionaries(st.text(min_size=1), st.integers(1, 10**9), min_size=2, max_size=5), st.floats(0.2, 50))
def test_a_temperature_keeps_the_order_of_the_sizes_and_brings_shares_closer(sizes: Any, temperature: float) -> None:
    sources = {name: {"source": "shards"} for name in sizes}
    config = DataConfig.model_validate({"train": sources, "weights": {"temperature": temperature}})
    weight = {name: source.weight for name, source in weighed(config, sizes).train.items()}
    largest = max(sizes, key=sizes.__getitem__)
    for name, count in sizes.items():
        assert weight[name] / weight[largest] == pytest.approx((count / sizes[largest]) ** (1 / temperature), rel=1e-9)
    assert sum(apportion(list(weight.values()), 256)) == 256


def test_sources_without_a_rule_keep_their_own_weights() -> None:
    config = data(None, middle={"weight": 3.0})
    assert weighed(config, SIZES) is config


def test_mistakes_are_refused() -> None:
    with pytest.raises(UserError, match=r"`train\.middle\.weight` is set, but `data\.weights` sets all of them"):
        data("uniform", middle={"weight": 2.0})
    with pytest.raises(UserError, match=r"`weights\.temperature` is `0`, but should be greater than 0"):
        data({"temperature": 0})
    with pytest.raises(UserError, match=r"`weights\.temperature` applies to `by: size` only; leave it out"):
        data({"by": "uniform", "temperature": 2})
    with pytest.raises(UserError, match=r"`weights\.by` is `sizes`, but should be 'uniform' or 'size'"):
        data("sizes")
