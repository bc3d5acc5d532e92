"""The measures of a selection: those of a naive loop, the same on any number of processes, and in the metrics."""

import json
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.data_pipelines.builtin.dataset import generate
from tercet.data_pipelines.sample import Batch
from tercet.distributed import World
from tercet.models.multimodal import build_model
from tercet.testing import on_ranks
from tercet.training.config import RunConfig
from tercet.training.loop.flops import count_flops
from tercet.training.selection.measures import measures
from tercet.training.selection.rule import SuperBatch
from tercet.training.selection.strata import Kept, Strata
from tests.training.test_data import metrics
from tests.training.test_resume import run_all
from tests.training.test_selection import selected
from tests.training.tiny import recipe

COSTS = {"flops_scoring", "flops_training", "flops_ratio"}
EACH = {"score_chosen", "score_left", "bad_chosen", "bad_drawn", "seconds", *COSTS}


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = WorldConfig(
        train=96, val=0, combinations=0, size=32, seconds=0.5, samples_per_shard=24, workers=1, mismatched=0.4
    )
    return generate(config, tmp_path_factory.mktemp("noisy"))


def batch(samples: int, **values: list[float]) -> Batch:
    ids = torch.arange(samples)
    return Batch(ids, ids, {}, values={name: torch.tensor(value) for name, value in values.items()})


def test_the_measures_are_those_of_a_naive_loop() -> None:
    score = [0.5, float("nan"), 3.0, -1.0, 2.0, 0.0, 7.0, float("inf")]
    bad = [1.0, 0, 0, 1, 1, 0, 0, 0]
    places = [0, 2, 5, 7]  # of each stratum of four, two
    learner: Any = SimpleNamespace(world=World(), seed=0)
    drawn = SuperBatch(batch(8, wrong=bad), 0, Strata(2, 2), learner)
    kept = Kept(torch.tensor(places), measures={"own": 4.0}, scores=torch.tensor(score))
    found = measures(drawn, kept, "wrong")
    dropped = [place for place in range(8) if place not in places]
    assert found.pop("score_chosen") == pytest.approx((0.5 + 3.0 + 0.0) / 3)
    assert found.pop("score_left") == pytest.approx(sum(score[place] for place in dropped if place != 1) / 3)
    assert found.pop("bad_chosen") == sum(bad[place] for place in places) / 4
    assert found.pop("bad_drawn") == sum(bad) / 8
    assert found == {"own": 4.0}


def test_what_is_not_known_has_no_measure() -> None:
    learner: Any = SimpleNamespace(world=World(), seed=0)
    drawn = SuperBatch(batch(4), 0, Strata(1, 4), learner)
    assert measures(drawn, Kept(torch.arange(4))) == {}
    everything = measures(drawn, Kept(torch.arange(4), scores=torch.ones(4), scored="loss"))
    assert everything == {"loss_chosen": 1.0}, "nothing is left"


def test_the_measures_of_a_run_do_not_depend_on_the_number_of_processes(noisy: Path, tmp_path: Path) -> None:
    marks = {}
    for shard in sorted((noisy / "train").glob("*.tar")):
        with tarfile.open(shard) as tar:
            for name in (name for name in tar.getnames() if name.endswith(".json")):
                marks[len(marks)] = json.loads(tar.extractfile(name).read())["mismatched"]  # type: ignore[union-attr]
    data = {"train": str(noisy / "train"), "crop": None, "worker": "thread", "values": {"wrong": "json.mismatched"}}
    selection = {"name": "loss", "filter_ratio": 0.5, "keep": "easiest", "bad": "wrong"}
    for processes in (1, 2):
        values = recipe(noisy, tmp_path / str(processes), steps=3, data=data, selection=selection)
        on_ranks(run_all, processes, [(values, None)])
    one, two = (
        [
            {name.partition("/")[2]: value for name, value in line.items() if name.startswith("selection/")}
            for line in metrics(tmp_path / str(processes))
        ]
        for processes in (1, 2)
    )
    assert [set(line) for line in one] == [EACH] * 3
    for line, other in zip(one, two, strict=True):
        names = EACH - {"seconds"}
        assert {name: line[name] for name in names} == pytest.approx({name: other[name] for name in names}, rel=1e-4)
        assert line["score_chosen"] > line["score_left"]
    assert_costs(one[0])
    for line, step in zip(one, selected(tmp_path / "1"), strict=True):
        assert line["bad_chosen"] == pytest.approx(sum(marks[id] for id in step["ids"]) / 16)
    assert 0.1 < one[0]["bad_drawn"] < 0.8


def assert_costs(line: dict[str, float]) -> None:
    """Every sample here has all fields. A step draws 32 of them and trains on 16."""
    config = RunConfig.model_validate(recipe(Path(), Path()))
    model = build_model(config.model, config.terms, config.seed)
    one = count_flops(model, model.intakes)
    each = dict.fromkeys(model.intakes, 1)
    assert line["flops_scoring"] == 32 * one.scoring(each)
    assert line["flops_training"] == 16 * one.training(each)
    assert line["flops_ratio"] == pytest.approx(1 + 2 * one.scoring(each) / one.training(each))
