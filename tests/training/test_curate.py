"""CiT in episodes: what is kept against a naive loop, on one and two processes, and in a run that resumes."""

from collections.abc import Mapping
from itertools import chain
from math import ceil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tercet.data_pipelines.batches.batches import SourceIds
from tercet.data_pipelines.columns import read_column
from tercet.data_pipelines.sources.open import open_source
from tercet.distributed import World
from tercet.errors import RankError, UserError
from tercet.models.multimodal import Multimodal, build_model
from tercet.testing import on_ranks
from tercet.training.checkpoints.commit import place
from tercet.training.checkpoints.reader import CHECKPOINTS, Saved, fill
from tercet.training.config import RunConfig
from tercet.training.episodes.config import CurateConfig
from tercet.training.episodes.curate import best_cosines, chosen, curated, read_texts
from tercet.training.memory.episode import Embedded, Episode
from tests.training.test_episode_orders import BATCH, EVERY, assert_alike, values
from tests.training.tiny import recipe

TEXTS = ["a red circle", "a large blue square and a green star", "", "a low hum"]
DRAWN = 40


def naive(cosines: dict[int, float], threshold: float, least: int) -> list[int]:
    ranked = sorted(cosines, key=lambda id: (-cosines[id], id))
    above = [id for id in ranked if cosines[id] > threshold]
    return sorted(above if len(above) >= least else ranked[:least])


ROUGH = st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.25000003, 0.5, 1.0])  # so that there are ties


@given(st.dictionaries(st.integers(0, 999), ROUGH, max_size=30), st.sampled_from([-1.0, 0.25, 0.9]), st.integers(0, 12))
def test_the_kept_samples_are_those_of_a_naive_loop(cosines: dict[int, float], threshold: float, least: int) -> None:
    exact = {id: torch.tensor(value).item() for id, value in cosines.items()}
    id_n = torch.tensor(sorted(exact), dtype=torch.int64)
    cosine_n = torch.tensor([exact[id] for id in id_n.tolist()])
    kept = id_n[chosen(id_n, cosine_n, threshold, least, World())].tolist()
    assert kept == naive(exact, threshold, least)


def kept_of_rank(world: World, least: int) -> list[int]:
    torch.manual_seed(0)
    cosine_N = torch.rand(101).mul(20).round().div(20)
    own = torch.tensor(world.share(range(101)))
    return own[chosen(own, cosine_N[own], 0.8, least, world)].tolist()  # type: ignore[no-any-return]


def test_two_processes_keep_what_one_keeps() -> None:
    for least in (5, 60, 500):
        alone = kept_of_rank(World(), least)
        assert len(alone) == {5: len(kept_of_rank(World(), 0)), 60: 60, 500: 101}[least]
        assert list(chain(*on_ranks(kept_of_rank, 2, least))) == alone


def test_the_best_cosine_is_that_of_the_nearest_text() -> None:
    z_nd = torch.nn.functional.normalize(torch.randn(50, 8), dim=1)
    text_Md = torch.nn.functional.normalize(torch.randn(7, 8), dim=1)
    expected = [max(float(one @ text) for text in text_Md) for one in z_nd]
    assert best_cosines(z_nd, text_Md).tolist() == pytest.approx(expected, abs=1e-6)
    assert len(best_cosines(z_nd[:0], text_Md)) == 0


def curating(world_folder: Path, out: Path, **curate: Any) -> dict[str, Any]:
    metadata = out.parent / "classes.txt"
    metadata.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    curate = {"metadata": str(metadata), "threshold": 0.97, "min_ratio": 0.45, **curate}
    return values(world_folder, out, {"samples": DRAWN, "curate": curate})


def test_a_run_trains_on_the_captions_that_its_own_text_tower_finds_closest(world_folder: Path, tmp_path: Path) -> None:
    one, two, parts = (curating(world_folder, tmp_path / name) for name in ("one", "two", "parts"))
    for run_values in (one, two, parts):
        run_values["checkpoint"] = {"every": 1, "keep": 20}
    batches = assert_alike(tmp_path, one, two, parts)
    fingerprint = open_source(str(world_folder / "train")).fingerprint
    config = RunConfig.model_validate(one)
    kept_before = None
    for step in (3, 6):
        episode = tmp_path / "one/episodes" / f"step_{step:08d}"
        vectors = read_column(episode / "vectors/text", fingerprint)
        model = build_model(config.model, config.terms, 0).eval()
        fill(model, Saved(place(tmp_path / "one" / CHECKPOINTS, step)).weights(averaged=False))
        with torch.no_grad():
            text_Md = model.embed_text([text for text in TEXTS if text])
        best = (torch.from_numpy(vectors.values["vector"]) @ text_Md.T).amax(dim=1)
        cosines = dict(zip(vectors.id_n.tolist(), best.tolist(), strict=True))
        found = read_column(episode / "kept", fingerprint)
        assert found.id_n.tolist() == naive(cosines, 0.97, max(ceil(0.45 * DRAWN), BATCH))
        assert found.values["cosine"].tolist() == pytest.approx([cosines[id] for id in found.id_n.tolist()], abs=1e-5)
        assert set(chain(*batches[step : step + EVERY])) <= set(found.id_n.tolist())
        assert found.id_n.tolist() != kept_before, "the text tower changed, and the draw did"
        kept_before = found.id_n.tolist()


class Texts:
    """A model whose texts are all the first axis."""

    def embed_text(self, texts: list[str]) -> Tensor:
        return torch.eye(4)[:1].expand(len(texts), -1)


def test_a_source_that_cannot_keep_a_sample_is_an_error_of_one_line(tmp_path: Path) -> None:
    """Ids 0 to 9 have captions, 10 to 19 have none, and none of 20 to 29 was drawn."""
    (tmp_path / "classes.txt").write_text("a red fox")
    config = CurateConfig(metadata=str(tmp_path / "classes.txt"))
    captions = Embedded(torch.arange(10), torch.eye(4)[:1].expand(10, -1))
    episode = Episode(3, 0, torch.arange(20), {"text": captions}, World())

    def kept(**ids: range) -> list[int]:
        sources = cast(Mapping[str, SourceIds], {name: SimpleNamespace(ids=one) for name, one in ids.items()})
        return curated(episode, config, cast(Multimodal, Texts()), sources, 4).id_n.tolist()

    assert kept(right=range(10)) == list(range(10))
    with pytest.raises(RankError, match="no drawn sample of `silent` has a caption; leave this source out"):
        kept(right=range(10), silent=range(10, 20))
    with pytest.raises(RankError, match=r"the episode drew no sample of `small`; raise episodes\.samples"):
        kept(right=range(10), small=range(20, 30))


def test_mistakes_are_refused_in_one_line(tmp_path: Path) -> None:
    def made(**episodes: Any) -> RunConfig:
        config = recipe(Path("shards"), tmp_path, episodes={"every": 3, "curate": {"metadata": "x"}, **episodes})
        return RunConfig.model_validate(config)

    made()
    with pytest.raises(ValueError, match=r"`curate` chooses among the drawn samples, so it replaces `train_on: drawn`"):
        made(train_on="drawn", samples=20)
    with pytest.raises(ValueError, match=r"`episodes.curate` compares captions, which episodes do not embed; add text"):
        made(fields=["image", "audio"])
    with pytest.raises(ValueError, match=r"`episodes.samples` is 9, but a step needs 16 samples"):
        made(samples=9)
    with pytest.raises(UserError, match=r"classes\.txt cannot be read \(No such file or directory\); name a text file"):
        read_texts(str(tmp_path / "classes.txt"))
    (tmp_path / "classes.txt").write_text("\n \n")
    with pytest.raises(UserError, match=r"classes\.txt has no text; write one on each line"):
        read_texts(str(tmp_path / "classes.txt"))
