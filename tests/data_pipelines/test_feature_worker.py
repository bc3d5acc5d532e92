"""Batches of features hold the samples, captions and groups of decoded batches, and what the towers make of them."""

from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.batches.decode_worker import DecodeWorker
from tercet.data_pipelines.batches.feature_worker import FeatureWorker
from tercet.data_pipelines.batches.loader import Loader
from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.data_pipelines.builtin.dataset import generate
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.sample import Batch, FeatureIntake, Intake
from tercet.data_pipelines.shards.read import Shards, open_shards
from tercet.data_pipelines.source import Files
from tercet.distributed import World
from tercet.eval.embedding import write_features
from tercet.eval.embedding.write_features import FeatureWriter
from tercet.models.multimodal import Multimodal
from tests.eval.stored import tiny

BATCH, STEPS = 20, 7  # more than an epoch of either source


class Damaged:
    """Shards of which every tenth sample cannot be read, and of which nothing is read once they are `closed`."""

    def __init__(self, shards: Shards) -> None:
        self._shards, self.closed = shards, False

    def __getattr__(self, name: str) -> object:
        return getattr(self._shards, name)

    def __len__(self) -> int:
        return len(self._shards)

    def read(self, ids: Sequence[int], wanted: Collection[str]) -> list[Files | BadSample]:
        assert not self.closed, "samples were read"
        found = self._shards.read(ids, wanted)
        return [BadSample("damaged") if id % 10 == 9 else files for id, files in zip(ids, found, strict=True)]


@pytest.fixture(scope="module")
def model() -> Multimodal:
    return tiny()


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Damaged]:
    config = WorldConfig(
        train=60, val=40, combinations=4, size=32, seconds=0.5, samples_per_shard=25, workers=1, missing={"audio": 0.3}
    )
    world = generate(config, tmp_path_factory.mktemp("world"))
    return {name: Damaged(open_shards(str(world / name))) for name in ("train", "val")}


@pytest.fixture(scope="module")
def folder(model: Multimodal, sources: dict[str, Damaged], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out, given = tmp_path_factory.mktemp("features"), data(0)
    with patch.object(write_features, "SAMPLES", 16):
        writer = FeatureWriter(model, "tiny", tuple(model.intakes), out, World())
        for name, source in sources.items():
            writer.add(source, given, given.train[name])  # type: ignore[arg-type]
    return out


def data(workers: int) -> DataConfig:
    train = {"train": {"source": "here", "weight": 2}, "val": "there"}
    values = {"train": train, "crop": None, "max_bad": 1.0, "workers": workers, "worker": "thread", "streams": 4}
    values["values"] = {"seen": "json.index"}
    return DataConfig.model_validate(values)


def loader(sources: dict[str, Damaged], intakes: dict[str, Intake], rank: int = 0, world: int = 1) -> Loader:
    return Loader(data(2), sources, intakes, BATCH, seed=5, rank=rank, world=world)  # type: ignore[arg-type]


def stored(model: Multimodal, folder: Path, names: Collection[str]) -> dict[str, Intake]:
    cached = {name: FeatureIntake(name, str(folder), model.tower(name).width) for name in names}
    return {**model.intakes, **cached}


def pairs(live: Loader, cached: Loader) -> Iterator[tuple[Batch, Batch]]:
    for one, other in zip(islice(live, STEPS), islice(cached, STEPS), strict=True):
        assert one.ids.tolist() == other.ids.tolist()
        assert one.groups.tolist() == other.groups.tolist()
        assert one.cursors == other.cursors
        assert one.values["seen"].tolist() == other.values["seen"].tolist()
        yield one, other


@pytest.mark.parametrize("names", [("image", "audio", "text"), ("image", "audio"), ("text",)])
@pytest.mark.parametrize(("rank", "world"), [(0, 1), (1, 2)])
def test_batches_are_those_of_the_towers(
    names: tuple[str, ...], rank: int, world: int, model: Multimodal, sources: dict[str, Damaged], folder: Path
) -> None:
    live = loader(sources, model.intakes, rank, world)
    cached = loader(sources, stored(model, folder, names), rank, world)
    assert type(cached._decode) is (FeatureWorker if len(names) == 3 else DecodeWorker)
    for one, other in pairs(live, cached):
        for name, field in one:
            assert field.item.tolist() == other.fields[name].item.tolist()
            assert other.fields[name].cached == (name in names)
            if name not in names:
                assert torch.equal(field.values, other.fields[name].values)
                continue
            with torch.no_grad():
                expected = model.tower(name).eval()(field.values, field.lengths)
            torch.testing.assert_close(other.fields[name].values, expected, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(model.embed_field(other.fields[name]), model.embed_field(field))
    assert live.bad.total() == cached.bad.total() > 0, "the substitutes are the same, too"


def test_nothing_is_read_from_the_source_if_all_is_stored(
    model: Multimodal, sources: dict[str, Damaged], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for source in sources.values():
        monkeypatch.setattr(source, "closed", True)
    (batch,) = islice(loader(sources, stored(model, folder, tuple(model.intakes))), 1)
    assert len(batch) == BATCH
    with pytest.raises(AssertionError, match="samples were read"):
        next(iter(loader(sources, stored(model, folder, ("image",)))))
