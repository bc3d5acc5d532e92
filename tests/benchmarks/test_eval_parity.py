"""Numbers of evaluation beside those of other libraries, and the pace of embedding beside a plain loop."""

from argparse import Namespace

import pytest

from tercet.benchmarks.eval import embedding
from tercet.benchmarks.eval.colours import Colours
from tercet.benchmarks.eval.parity import PEERS, row_of


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Colours:
    return Colours(tmp_path_factory.mktemp("colours"), 30)


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("CLIP_benchmark", "clip_benchmark"),
        ("scikit-learn", "sklearn"),
        ("torchmetrics", "torchmetrics"),
    ],  # tests/tercet/api/test_api_mteb.py compares with MTEB
)
def test_no_metric_is_apart(name: str, package: str, data: Colours) -> None:
    pytest.importorskip(package, reason=f"{name} is missing")
    row = row_of(name, PEERS[name], data)
    assert row.ours is not None
    assert row.ours < 1e-6
    assert len(set(row.beyond["scores"]["ours"].values())) > 1


def test_both_sides_embed_the_same_pictures() -> None:
    (row,) = embedding.rows(Namespace(pictures=6, rounds=1))
    assert (row.name, row.peer_name, row.sizes["pictures"]) == ("embedding", "a plain loop", 6)
    assert row.beyond["mean cosine of the vectors of a picture"] > 0.99
