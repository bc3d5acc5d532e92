"""FLYT: the slope of the scores against finite differences, scores learned on noisy pairs, and the group with them."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pyarrow.parquet
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.api.learn import learn as learn_scores
from tercet.command import main
from tercet.configs.base import build
from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.data_pipelines.builtin.dataset import generate
from tercet.data_pipelines.curate.score_group import ScoreColumn
from tercet.data_pipelines.curate.score_table import ScoreTable, TableSource
from tercet.data_pipelines.sources.open import open_source
from tercet.distributed import World
from tercet.errors import UserError
from tercet.eval.embedding.store import Store
from tercet.testing import RankFailed, on_ranks
from tercet.training.flyt.config import LearnConfig
from tercet.training.flyt.group import sides_of
from tercet.training.flyt.inner_step import InnerStep, Pairs, Parameters, inner_step, weighted_loss
from tercet.training.flyt.learn import learn
from tercet.training.flyt.scorer import Mixture, VectorScorer, features_of
from tests.training.tiny import MODEL, recipe, run


def random_pairs(count: int, seed: int, groups: int) -> Pairs:
    drawn = torch.Generator().manual_seed(seed)
    one, other = (torch.randn(count, 6, dtype=torch.float64, generator=drawn) for _ in range(2))
    return Pairs(one, other, torch.arange(count) % groups)


def two_layers(parameters: Parameters, pairs: Pairs) -> tuple[Tensor, Tensor]:
    hidden = torch.tanh(pairs.one_Nd @ parameters["first"])
    return normalize(hidden @ parameters["second"], dim=1), normalize(pairs.other_Nd @ parameters["other"], dim=1)


def stepped(score_N: Tensor, rate: float = 0.3) -> InnerStep:
    drawn = torch.Generator().manual_seed(3)
    shapes = {"first": (6, 9), "second": (9, 4), "other": (6, 4)}
    parameters = {name: torch.randn(*shape, dtype=torch.float64, generator=drawn) for name, shape in shapes.items()}
    return inner_step(two_layers, parameters, random_pairs(8, 0, 7), score_N, random_pairs(7, 1, 7), rate, scale=4.0)


def test_the_slope_of_each_score_is_that_of_finite_differences() -> None:
    score_N = torch.randn(8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    slope_N, step = stepped(score_N).slope_N, 1e-5
    for place in range(8):
        ahead, behind = (
            stepped(score_N + sign * step * torch.eye(8, dtype=torch.float64)[place]).loss for sign in (1, -1)
        )
        assert float(slope_N[place]) == pytest.approx(float(ahead - behind) / (2 * step), rel=1e-6, abs=1e-10)
    assert float(slope_N.abs().min()) > 1e-6
    assert float(slope_N.sum()) == pytest.approx(0, abs=1e-12), "weights do not change if all scores rise"


def test_the_weighted_loss_is_that_of_a_naive_loop() -> None:
    pairs, scale = random_pairs(6, 4, 5), 3.0
    one, other = normalize(pairs.one_Nd, dim=1), normalize(pairs.other_Nd, dim=1)
    score_N = torch.randn(6, dtype=torch.float64)
    weight = (score_N.exp() / score_N.exp().sum()).tolist()
    total = 0.0
    for a, b in ((one, other), (other, one)):
        for i in range(6):
            kept = [j for j in range(6) if j == i or j % 5 != i % 5]
            raised = {j: weight[j] * float((scale * a[i] @ b[j]).exp()) for j in kept}
            total -= weight[i] * math.log(raised[i] / sum(raised.values())) / 2
    assert float(weighted_loss(one, other, score_N, scale, pairs.hidden_NN)) == pytest.approx(total, rel=1e-9)


def noisy(count: int, seed: int, mismatched: float, shared: float = 0) -> tuple[Pairs, Tensor]:
    """Two views of a hidden vector; a share of the pairs shows two different ones. Also which pairs are right.

    `shared`: the size of another vector that both views of every pair show, also those of a wrong one.
    """
    drawn = torch.Generator().manual_seed(seed)
    hidden, another = (torch.randn(count, 12, generator=drawn) for _ in range(2))
    right = torch.rand(count, generator=drawn) >= mismatched
    sides = [hidden, hidden.where(right[:, None], another)]
    if shared:
        common = shared * torch.randn(count, 12, generator=drawn)
        sides = [torch.cat([side, common], dim=1) for side in sides]
    views = [normalize(side + 0.5 * torch.randn(side.shape, generator=drawn), dim=1) for side in sides]
    return Pairs(views[0], views[1], torch.arange(count)), right


def auroc(score_N: Tensor, right_N: Tensor) -> float:
    wins = score_N[right_N][:, None] > score_N[~right_N]
    return float(wins.float().mean())


SMALL = LearnConfig(steps=150, batch_size=128, target_batch=128, lr=3e-3, width=32, scale=14)


def test_scores_learned_on_half_wrong_pairs_tell_right_from_wrong() -> None:
    (pairs, _), (target, _), (others, right) = noisy(1500, 0, 0.5), noisy(600, 1, 0.0), noisy(1000, 2, 0.5)
    torch.manual_seed(0)
    scorer, feature_NF = VectorScorer(12, SMALL.width), features_of(pairs.one_Nd, pairs.other_Nd)
    learn(scorer, feature_NF, pairs, target, SMALL)
    with torch.no_grad():
        assert auroc(scorer(features_of(others.one_Nd, others.other_Nd)), right) > 0.9, "on pairs that it never saw"


@pytest.mark.long
@pytest.mark.parametrize("shared", [0, 1, 2])
def test_learned_scores_beside_the_cosine(shared: float, capsys: pytest.CaptureFixture[str]) -> None:
    """The figures of docs/flyt.md, over three seeds. Other options are those of the command."""
    learned, cosine = [], []
    for seed in (0, 10, 20):
        (pairs, _), (target, _) = noisy(4000, seed, 0.5, shared), noisy(1000, seed + 1, 0.0, shared)
        others, right = noisy(2000, seed + 2, 0.5, shared)
        config = LearnConfig(steps=400, batch_size=256, target_batch=256, width=64, seed=seed)
        torch.manual_seed(seed)
        scorer = VectorScorer(pairs.one_Nd.shape[1], config.width)
        learn(scorer, features_of(pairs.one_Nd, pairs.other_Nd), pairs, target, config)
        with torch.no_grad():
            learned.append(auroc(scorer(features_of(others.one_Nd, others.other_Nd)), right))
        cosine.append(auroc((others.one_Nd * others.other_Nd).sum(dim=1), right))
    with capsys.disabled():
        print(f"\nshared {shared}: learned {min(learned):.3f} to {max(learned):.3f}", end=", ")
        print(f"cosine {min(cosine):.3f} to {max(cosine):.3f}")
    assert min(learned) > 0.7
    assert all(one < other + 0.01 for one, other in zip(learned, cosine, strict=True)), "no better than the cosine"


def test_a_mixture_finds_the_columns_that_help() -> None:
    (pairs, right), (target, _) = noisy(1500, 0, 0.5), noisy(600, 1, 0.0)
    drawn = torch.Generator().manual_seed(5)
    noise = torch.randn(1500, 3, generator=drawn)
    column_NF = torch.stack([100 + 9 * (right + noise[:, 0]), noise[:, 1] - right.float(), 7 * noise[:, 2]], dim=1)
    column_NF[::5, 0] = torch.nan
    mixture = Mixture.of(column_NF)
    learn(mixture, column_NF, pairs, target, SMALL)
    good, bad, useless = mixture.weight_F.tolist()
    assert good > 0.05
    assert bad < -0.05
    assert abs(useless) < min(good, -bad) / 2
    alone = column_NF[:, 0].nan_to_num(float(column_NF[:, 0].nanmean()))
    with torch.no_grad():
        assert auroc(mixture(column_NF), right) > auroc(alone, right)


def test_a_missing_value_counts_as_the_mean() -> None:
    column_NF = torch.tensor([[1.0, 2.0], [3.0, torch.nan], [5.0, 4.0]])
    mixture = Mixture.of(column_NF)
    torch.nn.init.ones_(mixture.weight_F)
    deviation = (8 / 3) ** 0.5
    expected = [-2 / deviation - 1, 0.0, 2 / deviation + 1]
    assert mixture(column_NF).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world of half wrong captions, and a run on its right ones."""
    folder = tmp_path_factory.mktemp("flyt")
    size = {"val": 24, "combinations": 0, "size": 32, "seconds": 0.5, "samples_per_shard": 24, "workers": 1}
    generate(WorldConfig.model_validate({**size, "train": 40, "mismatched": 0.5}), folder / "world")
    values = recipe(
        folder / "world", folder / "run", model={**MODEL, "audio": None}, pairs={"image-text": 1.0}, steps=1
    )
    run(World(), values | {"eval": {"tasks": []}})
    return folder


OPTIONS = ["--batch-size", "16", "--target-batch", "8", "--steps", "3", "--width", "8"]


def test_the_command_writes_a_score_of_every_pair(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world, scores = trained / "world", tmp_path / "scores"
    given = ["--data", str(world / "train"), "--target", str(world / "val"), "--out", str(scores)]
    assert main(["curate", "learn", str(trained / "run"), *given, *OPTIONS, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == 40
    (file,) = (scores / "flyt" / "data").glob("*.parquet")
    rows = pyarrow.parquet.read_table(file).to_pylist()
    source = open_source(str(world / "train"))
    assert [(row["id"], row["key"]) for row in rows] == [(id, source.key(id)) for id in range(40)]
    assert len({row["score"] for row in rows}) > 30
    mix = ["--columns", "flyt.score", "--name", "mix"]
    assert main(["curate", "learn", str(trained / "run"), *given, *OPTIONS, *mix, "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["weights"]) == ["flyt.score"]
    mixed = pyarrow.parquet.read_table(next((scores / "mix" / "data").glob("*.parquet"))).to_pylist()
    order = sorted(range(40), key=lambda id: rows[id]["score"])
    ranked = sorted(range(40), key=lambda id: mixed[id]["score"])
    assert ranked in (order, order[::-1]), "one column can only be turned round"


def holding(*modalities: str) -> Store:
    return cast(Store, SimpleNamespace(modalities=list(modalities)))


def test_pairs_have_the_modalities_that_the_data_and_the_target_share() -> None:
    every = holding("image", "audio", "text")
    assert sides_of(every, every) == ("image", "text")
    assert sides_of(every, holding("audio", "text")) == ("audio", "text")
    assert sides_of(holding("image", "audio"), every) == ("image", "audio")
    with pytest.raises(UserError, match="the data hold image, text, and the target audio, text; pairs need two"):
        sides_of(holding("image", "text"), holding("audio", "text"))


def learn_on(world: World, run: str, data: str, out: str) -> None:
    learn_scores(run, data, data, out)


def test_mistakes_are_refused_in_one_line(trained: Path, tmp_path: Path) -> None:
    data, run_folder = str(trained / "world/train"), str(trained / "run")
    with pytest.raises(UserError, match=r"the data have 40 pairs, but --batch-size is 1,024; set it to 40 or less"):
        learn_scores(run_folder, data, data, tmp_path / "scores")
    with pytest.raises(UserError, match=r"`score` is not a column of a score table; write GROUP\.COLUMN"):
        learn_scores(run_folder, data, data, tmp_path / "scores", columns="score")
    table = ScoreTable.begin(tmp_path / "scores", TableSource.of(open_source(data), data))
    group = table.begin_group("words", {}, {"text": ScoreColumn("string", "a word")})
    rows = {"id": [0], "key": ["k"], "text": ["dog"]}
    group.write("data", range(40), pyarrow.table(rows))
    with pytest.raises(UserError, match=r"`words\.text` does not hold numbers"):
        learn_scores(run_folder, data, data, tmp_path / "scores", columns="words.text", name="other")
    group = table.begin_group("lone", {}, {"number": ScoreColumn("float32", "a number")})
    group.write("data", range(40), pyarrow.table({"id": [0, 1], "key": ["k", "l"], "number": [0.5, 0.5]}))
    with pytest.raises(UserError, match=r"`lone\.number` has no two different values for the 40 pairs to learn from"):
        learn_scores(run_folder, data, data, tmp_path / "scores", columns="lone.number", name="other")
    with pytest.raises(UserError, match=r"`steps` is `0`, but should be greater than 0"):
        build(LearnConfig, {"steps": 0}, lambda key: "learn")
    with pytest.raises(RankFailed, match=r"scores are learned in one process, and these are 2; start it without a"):
        on_ranks(learn_on, 2, run_folder, data, str(tmp_path / "scores"))
