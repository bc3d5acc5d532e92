"""A run that takes positives from the clusters of its episodes, from a queue, and from a momentum encoder."""

import json
from pathlib import Path

import pytest

from tercet.testing import on_ranks
from tests.training.conftest import world_folder as world_folder
from tests.training.test_prototypes_memory import EVERY, clustered, term
from tests.training.test_resume import run_all


@pytest.mark.parametrize("keys", ["audio", "momentum.audio"])
def test_it_is_infonce_until_the_first_episode(world_folder: Path, tmp_path: Path, keys: str) -> None:
    queue = {"kind": "queue", "fields": ["audio"], "size": 64, "start": 0}
    for name, objective in (("plain", "infonce"), ("clusters", {"name": "same_cluster", "weight_cluster": 0.5})):
        values = clustered(world_folder, tmp_path / name)
        values["memories"] |= {"queue": queue, "momentum": {"kind": "momentum", "decay": 0.9}}
        values["terms"] = [
            term(("image", keys), objective=objective, against={"image": ["queue.audio"]}),
            {"name": "own", "between": ["audio", "momentum.image"]},
        ]
        if name == "plain":
            del values["terms"][0]["prototypes"], values["memories"]["groups"], values["episodes"]
        on_ranks(run_all, 1, [(values, None)])
    plain, found = (
        [json.loads(line)["loss"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("plain", "clusters")
    )
    assert found[:EVERY] == pytest.approx(plain[:EVERY], rel=1e-6)
    assert all(abs(one - other) > 1e-3 for one, other in zip(found[EVERY:], plain[EVERY:], strict=True))
