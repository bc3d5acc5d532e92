import json
from collections.abc import Callable, Sequence
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest
import torch

from tercet.data_pipelines.batches.eval_loader import EvalLoader
from tercet.data_pipelines.batches.loader import Loader
from tercet.data_pipelines.config import DataConfig, SplitConfig
from tercet.data_pipelines.decode.item import Decoder
from tercet.data_pipelines.plans.order import Shuffled, own_seed
from tercet.data_pipelines.sample import AudioIntake, Batch, ImageIntake, Intake, Sample, TextIntake
from tercet.data_pipelines.shards.read import Shards, open_shards
from tercet.data_pipelines.transforms.audio import AudioAugmenter
from tercet.data_pipelines.transforms.config import AugmentConfig
from tercet.data_pipelines.transforms.crop import random_views
from tercet.data_pipelines.transforms.image import ImageAugmenter
from tercet.errors import UserError

CAPTIONS = 3


def tokenize(captions: Sequence[str]) -> torch.Tensor:
    return torch.tensor([list(caption.encode().ljust(16)[:16]) for caption in captions])


INTAKES: dict[str, Intake] = {
    "image": ImageIntake((12, 12)),
    "audio": AudioIntake(8000, 0.05),
    "text": TextIntake(tokenize),
}


@pytest.fixture
def shards(pack: Callable[..., Path], picture: Callable[..., bytes], sound: Callable[..., bytes]) -> Shards:
    """Two shards of 37 items. Every third lacks the picture, every fifth the sound, every seventh the captions."""
    dice = np.random.default_rng(0)

    def item(i: int) -> dict[str, object]:
        files = {
            "png": picture(i) if i % 3 else None,
            "flac": sound(dice.uniform(-0.5, 0.5, 300 + 20 * i), 8000) if i % 5 else None,
            "txt": "\n".join(f"caption {n} of {i:02d}" for n in range(CAPTIONS)) if i % 7 else None,
            "json": json.dumps({"group": i // 2, "number": i}).encode(),
        }
        return {"__key__": f"{i:02d}", **{name: file for name, file in files.items() if file is not None}}

    items = [item(i) for i in range(1, 38)]
    return open_shards([str(pack("0.tar", items[:20])), str(pack("1.tar", items[20:]))])


DATA: dict[str, object] = {"train": "here", "crop": (0.3, 1.0), "streams": 4, "window": 6, "workers": 0}


def loader(shards: Shards, batch_size: int = 8, **options: object) -> Loader:
    data = {**DATA, **{name: options.pop(name) for name in list(options) if name in DataConfig.model_fields}}
    config = DataConfig.model_validate(data)
    return Loader(config, {"train": shards}, INTAKES, batch_size, **{"seed": 5, **options})  # type: ignore[arg-type]


def rows(batches: Sequence[Batch]) -> list[tuple[object, ...]]:
    """Each item with all of its rows, as plain numbers."""
    items: list[tuple[object, ...]] = []
    for batch in batches:
        for i in range(len(batch)):
            own = {
                name: (
                    field.values[field.item == i].tolist(),
                    None if field.lengths is None else field.lengths[field.item == i].tolist(),
                )
                for name, field in batch
            }
            items.append((int(batch.ids[i]), int(batch.groups[i]), own))
    return items


def taken(loader: Loader, count: int) -> list[Batch]:
    return list(islice(loader, count))


def test_batches_hold_the_samples_of_the_order(shards: Shards) -> None:
    """Compares with a naive loop over positions, for more than two epochs."""
    decode, order = (
        Decoder(shards, INTAKES, SplitConfig(source="here")),
        Shuffled(shards.counts, own_seed("train", 5), 4, 6),
    )
    batches = taken(loader(shards), 11)
    positions = [sorted(range(8 * b, 8 * b + 8), key=lambda p: order.piece(np.array([p])).item()) for b in range(11)]
    for place, position in enumerate(chain(*positions)):
        id, epoch = order.at(np.array([position])).item(), position // 37
        (sample,) = decode([id], random_views("train", 5, [epoch], [id], (0.3, 1.0)))
        assert isinstance(sample, Sample)
        batch, i = batches[place // 8], place % 8
        assert (batch.ids[i], batch.groups[i]) == (id, sample.meta["number"] // 2)  # type: ignore[operator]
        values = {name: field.values[field.item == i] for name, field in batch}
        assert [len(values[name]) for name in ("image", "audio", "text")] == [
            sample.image is not None,
            sample.audio is not None,
            bool(sample.text),
        ]
        if sample.image is not None:
            assert np.array_equal(values["image"][0].permute(1, 2, 0), sample.image)
        if sample.audio is not None:
            length = int(batch.fields["audio"].lengths[batch.fields["audio"].item == i])
            assert np.array_equal(values["audio"][0, :length], sample.audio)
            assert not values["audio"][0, length:].any()
        if sample.text:
            assert torch.equal(values["text"], INTAKES["text"].tokenize(list(sample.text)))


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("world", [1, 2, 4])
def test_global_batches_do_not_depend_on_the_numbers_of_ranks_and_workers(
    shards: Shards, world: int, workers: int
) -> None:
    """More than three epochs, in threads; another test covers processes."""
    reference = taken(loader(shards, 8), 14)
    threads = {"workers": workers, "worker": "thread"}
    ranks = [taken(loader(shards, 8, rank=rank, world=world, **threads), 14) for rank in range(world)]
    for whole, parts in zip(reference, zip(*ranks, strict=True), strict=True):
        assert [len(part) for part in parts] == [8 // world] * world
        assert rows(parts) == rows([whole])


def test_worker_processes_make_the_same_batches(shards: Shards) -> None:
    straight = rows(taken(loader(shards, 8), 14))
    assert rows(taken(loader(shards, 8, workers=1, worker="process"), 14)) == straight
    halves = [taken(loader(shards, 8, workers=3, worker="process", rank=rank, world=2), 14) for rank in (0, 1)]
    assert rows([part for pair in zip(*halves, strict=True) for part in pair]) == straight


@pytest.mark.parametrize("stop", [1, 4, 5, 9])
def test_a_new_loader_resumes_at_the_cursor(shards: Shards, stop: int) -> None:
    threads = {"workers": 2, "worker": "thread"}
    straight = taken(loader(shards), 12)
    before = taken(loader(shards, **threads), stop)
    assert before[-1].cursors == {"train": 8 * stop}
    halves = [taken(loader(shards, start=before[-1].cursors, rank=rank, world=2), 12 - stop) for rank in (0, 1)]
    after = [part for pair in zip(*halves, strict=True) for part in pair]
    assert rows(before + after) == rows(straight)


def test_a_loader_resumes_with_another_batch_size(shards: Shards) -> None:
    order = Shuffled(shards.counts, own_seed("train", 5), 4, 6)
    batches = taken(loader(shards, 6, start={"train": 24}), 4)
    for batch, first in zip(batches, range(24, 48, 6), strict=True):
        assert sorted(batch.ids.tolist()) == sorted(order.at(np.arange(first, first + 6)).tolist())


def test_a_batch_in_use_is_not_overwritten(shards: Shards) -> None:
    """Buffers are used again, but only those of batches without references."""
    stream = iter(loader(shards, 8, workers=2, worker="thread"))
    first = next(stream)
    before = rows([first])
    for _ in range(9):
        next(stream)
    assert rows([first]) == before


def test_items_ascend_and_each_epoch_has_other_crops_and_captions(shards: Shards) -> None:
    batches = taken(loader(shards, 37), 3)
    for batch in batches:
        assert sorted(batch.ids.tolist()) == list(range(37))
        assert all((field.item.diff() > 0).all() for _, field in batch)
    seen = [{id: own for id, _, own in rows([batch])} for batch in batches]
    for name in INTAKES:
        assert sum(seen[0][id][name] != seen[1][id][name] for id in range(37)) > 10


def test_a_field_without_rows_keeps_its_shape(pack: Callable[..., Path]) -> None:
    only_text = open_shards(str(pack("text.tar", [{"__key__": str(i), "txt": f"caption {i}"} for i in range(4)])))
    (batch,) = taken(loader(only_text, 4), 1)
    shapes = {name: (tuple(field.values.shape), field.values.dtype) for name, field in batch}
    assert shapes == {
        "image": ((0, 3, 12, 12), torch.uint8),
        "audio": ((0, 400), torch.float32),
        "text": ((4, 16), torch.int64),
    }


def test_mistakes_are_errors_of_one_line(shards: Shards) -> None:
    with pytest.raises(UserError, match="batch_size 30 does not divide by 4 processes: take 28 or 32"):
        loader(shards, 30, world=4)
    with pytest.raises(UserError, match=r"field `txt`.*text"):
        Loader(DataConfig(train="here"), {"train": shards}, {"txt": INTAKES["text"]}, 8, seed=0)


def test_samples_kept_in_memory_equal_decoded_ones(shards: Shards) -> None:
    """12 batches of 8 are more than two epochs of 37 samples."""
    fresh, kept = (taken(loader(shards, crop=None, keep=keep), 12) for keep in (False, True))
    assert rows(kept) == rows(fresh)


AUGMENT = {
    "image": {"flip": 0.5, "jitter": 0.5},
    "audio": {"gain": [-6, 6], "mix": 0.5, "time_masks": 2, "frequency_masks": 1},
}


def test_augmentation_is_the_same_on_any_number_of_ranks_and_after_resuming(shards: Shards) -> None:
    whole = taken(loader(shards, 8, augment=AUGMENT), 12)
    ranks = [
        taken(loader(shards, 8, augment=AUGMENT, start=whole[3].cursors, rank=rank, world=2, workers=rank), 8)
        for rank in (0, 1)
    ]
    assert rows([part for pair in zip(*ranks, strict=True) for part in pair]) == rows(whole[4:])
    masks = [torch.cat([part.fields["audio"].masks for part in pair]) for pair in zip(*ranks, strict=True)]
    assert all(torch.equal(one, batch.fields["audio"].masks) for one, batch in zip(masks, whole[4:], strict=True))


def test_sounds_have_the_draws_that_their_tower_needs(shards: Shards) -> None:
    """They depend on the seed, the epoch and the sample, and on nothing else."""
    data = DataConfig.model_validate(DATA)
    needing = {**INTAKES, "audio": AudioIntake(8000, 0.05, draws=3)}

    def drawn(seed: int = 5, **options: int) -> list[torch.Tensor]:
        batches = islice(Loader(data, {"train": shards}, needing, 8, seed=seed, **options), 9)
        fields = [batch.fields["audio"] for batch in batches]
        assert all(field.inputs[2:] == (None, field.draws) for field in fields)
        return [field.draws for field in fields if field.draws is not None]

    whole = drawn()
    every = torch.cat(whole)
    assert len(every.unique(dim=0)) == len(every) > 37, "samples of the second epoch have other draws"
    assert 0 <= every.min() < 0.1 < 0.9 < every.max() < 1
    ranks = zip(drawn(rank=0, world=2), drawn(rank=1, world=2), strict=True)
    assert all(torch.equal(torch.cat(parts), draws) for parts, draws in zip(ranks, whole, strict=True))
    assert not torch.equal(drawn(seed=6)[0], whole[0])
    evaluated = EvalLoader(Decoder(shards, needing, SplitConfig(source="here")), needing, 8)
    assert next(iter(evaluated)).fields["audio"].lengths is not None


def test_the_loader_applies_the_augmenters(shards: Shards) -> None:
    """Compares with the augmenters applied to the batches of a loader without augmentation."""
    config = AugmentConfig.model_validate(AUGMENT)
    plain, changed = taken(loader(shards), 10), taken(loader(shards, augment=AUGMENT), 10)
    decode = Decoder(shards, {"audio": INTAKES["audio"]}, SplitConfig(source="here"))
    order = Shuffled(shards.counts, own_seed("train", 5), 4, 6)
    paint, sound = ImageAugmenter(config.image), AudioAugmenter(config.audio)
    mixed = 0
    for number, (before, after) in enumerate(zip(plain, changed, strict=True)):
        epoch_of = {order.at(np.array([p])).item(): p // 37 for p in range(8 * number, 8 * number + 8)}
        for item, id in enumerate(before.ids.tolist()):
            (view,) = random_views("train", 5, [epoch_of[id]], [id], (0.3, 1.0))
            one, other = (batch.fields["image"] for batch in (before, after))
            for was, now in zip(one.values[one.item == item], other.values[other.item == item], strict=True):
                assert (paint(was.permute(1, 2, 0).numpy(), view.key) == now.permute(1, 2, 0).numpy()).all()
            one, other = (batch.fields["audio"] for batch in (before, after))
            for row in torch.nonzero(one.item == item).flatten().tolist():
                wave = one.values[row, : int(one.lengths[row])].numpy()
                partner = sound.partner(view.key, id, 37)
                heard = decode([partner], [view])[0] if partner is not None else None
                foreign = heard.audio if isinstance(heard, Sample) else None
                mixed += foreign is not None
                assert np.array_equal(sound(wave, view.key, foreign), other.values[row, : len(wave)].numpy())
                assert np.array_equal(sound.masks(view.key), other.masks[row].numpy())
    assert mixed > 5
