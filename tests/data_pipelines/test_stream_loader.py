import json
from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import blake2b
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from tercet.data_pipelines.config import DataConfig, SplitConfig
from tercet.data_pipelines.decode.item import Decoder
from tercet.data_pipelines.sample import AudioIntake, Batch, ImageIntake, Intake, TextIntake
from tercet.data_pipelines.shards.read import open_shards
from tercet.data_pipelines.stream.loader import StreamLoader
from tercet.data_pipelines.stream.reader import distinguishing_parts, id_of
from tercet.data_pipelines.stream.sequence import turns
from tercet.data_pipelines.transforms.crop import random_views
from tercet.errors import UserError

SIZES = (9, 5, 7)


def tokenize(captions: Sequence[str]) -> torch.Tensor:
    return torch.tensor([list(caption.encode().ljust(16)[:16]) for caption in captions])


INTAKES: dict[str, Intake] = {
    "image": ImageIntake((12, 12)),
    "audio": AudioIntake(8000, 0.05),
    "text": TextIntake(tokenize),
}


@pytest.fixture
def folder(pack: Callable[..., Path], picture: Callable[..., bytes], sound: Callable[..., bytes]) -> Path:
    """Three shards. Every third sample lacks the picture, every fifth the sound."""
    dice = np.random.default_rng(0)

    def item(shard: int, i: int) -> dict[str, object]:
        files = {
            "png": picture(10 * shard + i) if i % 3 else None,
            "flac": sound(dice.uniform(-0.5, 0.5, 300 + 20 * i), 8000) if i % 5 else None,
            "txt": f"one of {shard}-{i}\ntwo of {shard}-{i}",
            "json": json.dumps({"group": i}).encode(),
        }
        return {"__key__": f"{shard}-{i}", **{name: file for name, file in files.items() if file is not None}}

    for shard, size in enumerate(SIZES):
        path = pack(f"{shard}.tar", [item(shard, i) for i in range(size)])
    return path.parent


def loader(shards: object, batch_size: int, **options: object) -> StreamLoader:
    data = {"crop": (0.3, 1.0), "workers": 0, "worker": "thread", "train": {"a": {"source": str(shards)}}}
    data |= {name: options.pop(name) for name in list(options) if name in DataConfig.model_fields}
    options = {"seed": 5, "shuffled": 0, **options}
    return StreamLoader(DataConfig.model_validate(data), INTAKES, batch_size, **options)  # type: ignore[arg-type]


def taken(loader: StreamLoader, count: int) -> list[Batch]:
    return list(islice(loader, count))


def ids(batches: Sequence[Batch]) -> list[int]:
    return [id for batch in batches for id in batch.ids.tolist()]


def numbers(batch: Batch) -> dict[str, object]:
    fields = {
        name: (field.values.tolist(), field.item.tolist(), field.lengths is not None and field.lengths.tolist())
        for name, field in batch
    }
    return {"ids": batch.ids.tolist(), "groups": batch.groups.tolist(), **fields}


def test_a_stream_decodes_the_same_samples_as_an_index(folder: Path) -> None:
    """Compares with a naive loop over the turns and the index of each shard, for more than an epoch."""
    batches = taken(loader(folder, 6), 7)
    position = 0
    for turn in islice(turns(names(folder), 5, 0, 1, 0), 6):
        source = open_shards(turn.shard)
        decode = Decoder(source, INTAKES, SplitConfig(source=turn.shard))
        for row in range(len(source)):
            id = id_of(turn.shard, source.key(row))
            (sample,) = decode([row], random_views("a", 5, [turn.epoch], [id], (0.3, 1.0)))
            batch, i = batches[position // 6], position % 6
            fields = {name: field.values[field.item == i] for name, field in batch}
            assert (batch.ids[i], batch.groups[i]) == (id, sample.group)
            assert [len(fields[name]) for name in ("image", "audio")] == [bool(row % 3), bool(row % 5)]
            if row % 3:
                assert np.array_equal(fields["image"][0].permute(1, 2, 0), sample.image)
            if row % 5:
                assert np.array_equal(fields["audio"][0, : len(sample.audio)], sample.audio)
            assert torch.equal(fields["text"], tokenize(sample.text))
            position += 1
    assert position == 2 * sum(SIZES) == 42


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_do_not_depend_on_the_number_of_workers(folder: Path, workers: int) -> None:
    alone, helped = (taken(loader(folder, 8, shuffled=10, workers=count), 8) for count in (0, workers))
    assert [numbers(batch) for batch in helped] == [numbers(batch) for batch in alone]


@pytest.mark.parametrize(("shards", "world"), [("0.tar", 2), ("0.tar", 4), ("*.tar", 2), ("*.tar", 4), ("*.tar", 7)])
def test_all_ranks_together_see_each_sample_once_an_epoch(folder: Path, shards: str, world: int) -> None:
    """No rank ever ends. A naive count assigns each sample to its epoch."""
    ranks = [loader(folder / shards, world, rank=rank, world=world) for rank in range(world)]
    seen: Counter[tuple[int, int]] = Counter()
    for number, rank in enumerate(ranks):
        batches = taken(rank, 60)
        assert [len(batch) for batch in batches] == [1] * 60
        seen.update(epochs(folder / shards, world, number, ids(batches)))
    size = sum(SIZES) if shards == "*.tar" else SIZES[0]
    for epoch in range(60 // size - 1):
        assert sorted(count for (own, _), count in seen.items() if own == epoch) == [1] * size


def epochs(spec: Path, world: int, rank: int, ids: list[int]) -> list[tuple[int, int]]:
    """The ids that one rank reads, shard by shard, each with its epoch."""
    shards = sorted(map(str, spec.parent.glob(spec.name)))
    order: list[tuple[int, int]] = []
    for turn in turns(shards, 5, rank, world, 0):
        order += [(turn.epoch, id) for id in shard_ids(turn.shard)[turn.share :: turn.shares]]
        if len(order) >= len(ids):
            break
    assert [id for _, id in order[: len(ids)]] == ids
    return order[: len(ids)]


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("stop", [0, 3, 8, 15])
def test_a_run_resumes_at_a_shard_on_any_number_of_ranks(folder: Path, stop: int, world: int) -> None:
    """No sample is lost: the shards before the place were read to their end, and the others follow in order."""
    first = [loader(folder, 4, rank=rank, world=2, shuffled=6, workers=2) for rank in (0, 1)]
    before = Counter(ids([batch for rank in first for batch in taken(rank, stop)]))
    start = min(rank.place for rank in first)
    order = [shard_ids(turn.shard) for turn in islice(turns(names(folder), 5, 0, 1, 0), start + 6)]
    assert not Counter(id for shard in order[:start] for id in shard) - before
    again = [loader(folder, world, rank=rank, world=world, start=start) for rank in range(world)]
    for rank, resumed in enumerate(again):
        own = [id for place in range(start, start + 6) if place % world == rank for id in order[place]]
        assert ids(taken(resumed, len(own))) == own


def names(folder: Path) -> list[str]:
    return sorted(map(str, folder.glob("*.tar")))


def shard_ids(shard: str) -> list[int]:
    source = open_shards(shard)
    return [id_of(shard, source.key(row)) for row in range(len(source))]


def test_a_second_iteration_starts_with_the_unfinished_shards(folder: Path) -> None:
    walked = loader(folder, 4, shuffled=5, workers=2)
    taken(walked, 5)
    place = walked.place
    assert place > 0
    assert ids(taken(walked, 4)) == ids(taken(loader(folder, 4, shuffled=5, start=place), 4))


def test_the_seed_decides_how_samples_are_shuffled(folder: Path) -> None:
    plain, mixed, other = (ids(taken(loader(folder, 7, shuffled=n, seed=s), 3)) for n, s in ((0, 5), (21, 5), (21, 6)))
    assert len(set(plain)) == 21
    assert mixed != plain
    assert mixed != other
    assert mixed == ids(taken(loader(folder, 7, shuffled=21), 3))


def test_ids_stay_the_same_when_shards_move_to_another_folder(folder: Path) -> None:
    digest = blake2b(b"7.tar/a/b", digest_size=8).digest()
    expected = int.from_bytes(digest, "big") // 2
    for shard in ("7.tar", "/there/7.tar", "https://me:secret@host/there/7.tar?token=x", "s3://bucket/7.tar"):
        assert id_of(shard, "a/b") == expected < 2**63
    assert len(set(ids(taken(loader(folder, 7), 3)))) == sum(SIZES)


def test_equal_shard_names_in_several_folders_do_not_share_ids(pack: Callable[..., Path], tmp_path: Path) -> None:
    """img2dataset numbers shards and samples in each folder from 00000."""
    for name in ("cc3m", "cc12m"):
        (tmp_path / name).mkdir()
        pack(f"{name}/00000.tar", [{"__key__": f"{i:09d}", "txt": f"{name} {i}"} for i in range(8)])
    data = {"mode": "stream", "train": [str(tmp_path / name) for name in ("cc3m", "cc12m")], "workers": 0}
    stream = StreamLoader(DataConfig.model_validate(data), INTAKES, 8, seed=0, shuffled=0)
    assert len(set(ids(taken(stream, 2)))) == 16
    moved = [f"s3://bucket/{name}/00000.tar" for name in ("cc3m", "cc12m")]
    assert distinguishing_parts(moved) == 2
    assert distinguishing_parts([str(tmp_path / name / "00000.tar") for name in ("cc3m", "cc12m")]) == 2
    assert distinguishing_parts(["a/0.tar", "b/1.tar"]) == distinguishing_parts(["0.tar"]) == 1


def test_mistakes_are_errors_of_one_line(folder: Path) -> None:
    with pytest.raises(UserError, match="batch_size 30 does not divide by 4 processes"):
        loader(folder, 30, world=4)
    with pytest.raises(UserError, match=r"data.mode=stream reads one source, but data.train names 2 \(a, b\)"):
        loader(folder, 4, train={"a": {"source": str(folder)}, "b": {"source": str(folder)}})
    with pytest.raises(UserError, match="mix draws other samples by index"):
        loader(folder, 4, augment={"audio": {"mix": 0.5}})
    with pytest.raises(UserError, match="`pipe:` URLs are not supported"):
        loader("pipe:cat a.tar", 4)


def test_each_sound_has_its_own_spectrogram_masks(folder: Path) -> None:
    masked = taken(loader(folder, 7, augment={"audio": {"time_masks": 2, "frequency_masks": 1}}), 3)
    again = taken(loader(folder, 7, workers=2, augment={"audio": {"time_masks": 2, "frequency_masks": 1}}), 3)
    for batch, same in zip(masked, again, strict=True):
        sounds = batch.fields["audio"]
        assert sounds.masks is not None
        assert sounds.masks.shape == (len(sounds), 3, 4)
        assert torch.equal(sounds.masks, same.fields["audio"].masks)
        assert len({tuple(mask.flatten().tolist()) for mask in sounds.masks}) == len(sounds)
