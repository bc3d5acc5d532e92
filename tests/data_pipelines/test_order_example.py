"""The example order of docs/architecture.md is pure and complete, and gives the same batches on any ranks."""

import re
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet.data_pipelines.batches.loader import Loader
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.plans import schedule
from tercet.data_pipelines.plans.order import Order
from tests.data_pipelines.memory import INTAKES, Captions

PAGE = Path(__file__).resolve().parents[2] / "docs/architecture.md"
COUNTS = [12, 0, 20, 8]
LENGTHS = np.random.default_rng(0).integers(3, 12, sum(COUNTS))


@pytest.fixture
def build() -> Callable[..., Order]:
    (code,) = re.findall(r"```python\n(# short_first\.py\n.+?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    return lambda *how: names["ShortFirst"](np.array(COUNTS), LENGTHS, *how)


def test_each_epoch_has_every_sample_and_the_first_goes_from_short_to_long(build: Callable[..., Order]) -> None:
    order = build(3, 4, 6)
    ids = order.at(np.arange(120))
    assert ids[:40].tolist() == sorted(range(40), key=lambda id: LENGTHS[id])
    assert all(sorted(epoch) == list(range(40)) for epoch in ids.reshape(3, 40).tolist())
    assert [order.at(np.array([position])).item() for position in (0, 17, 40, 119)] == ids[[0, 17, 40, 119]].tolist()
    assert len(set(zip(ids.tolist(), order.appearance(np.arange(120)).tolist(), strict=True))) == 120


@pytest.mark.parametrize("world", [2, 4])
def test_batches_do_not_depend_on_the_number_of_ranks(
    build: Callable[..., Order], world: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "build_order", lambda *given: build(3, 4, 6))
    data = DataConfig.model_validate({"train": "a", "streams": 4, "window": 6, "workers": 0, "crop": None})

    def batches(**ranks: int) -> list[list[int]]:
        loader = Loader(data, {"train": Captions("a", COUNTS)}, INTAKES, 8, seed=3, **ranks)
        return [batch.ids.tolist() for batch in islice(loader, 10)]

    whole = batches()
    parts = [batches(rank=rank, world=world) for rank in range(world)]
    assert [[id for part in batch for id in part] for batch in zip(*parts, strict=True)] == whole
    assert [sorted(LENGTHS[batch]) for batch in whole[:5]] == np.sort(LENGTHS).reshape(5, 8).tolist()
