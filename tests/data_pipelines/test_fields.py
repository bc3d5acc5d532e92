"""The fields that a recipe adds: where their rows come from, and that they do not depend on the number of processes."""

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from tercet.configs.base import build
from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.batches.batch_maker import BatchMaker
from tercet.data_pipelines.captions.reader import CaptionReader
from tercet.data_pipelines.captions.text import first_sentences
from tercet.data_pipelines.config import DataConfig, SplitConfig
from tercet.data_pipelines.decode.item import FileDecoder
from tercet.data_pipelines.fields import FieldConfig, further_fields
from tercet.data_pipelines.sample import Batch, Sample
from tercet.data_pipelines.shards.read import Shards
from tercet.data_pipelines.stream.loader import StreamLoader
from tercet.data_pipelines.transforms.crop import CentreView
from tercet.errors import UserError
from tests.data_pipelines.further import FURTHER, INTAKES, ITEMS, batches, negatives, words
from tests.data_pipelines.further import shards as shards


def plain(parts: Sequence[Batch]) -> list[object]:
    """The id and the rows of each item, as plain numbers."""
    return [
        (int(batch.ids[i]), [(name, field.values[field.item == i].tolist()) for name, field in batch])
        for batch in parts
        for i in range(len(batch))
    ]


def test_rows_come_from_the_configured_places(shards: Shards) -> None:
    """Within three epochs, each wrong caption of each sample appears, and no other."""
    seen: dict[int, set[str]] = {}
    for batch in batches(shards, 9):
        for i, id in enumerate(batch.ids.tolist()):
            wrong = words(batch.fields["text.negative"], i)
            assert len(wrong) == min(3, id % 6)
            assert len(set(wrong)) == len(wrong)
            seen.setdefault(id, set()).update(wrong)
            rewrites = words(batch.fields["text.rewrite"], i)
            assert (len(rewrites), {*rewrites} <= {f"again {id}", f"anew {id}"}) == (1 if id % 3 else 0, True)
            more = words(batch.fields["text.more"], i)
            assert len({*more} & {f"one {id}", f"two {id}", f"three {id}"}) == 2
    for id, found in seen.items():
        assert found <= set(negatives(id))
    assert sum(map(len, seen.values())) > 0.9 * sum(len(negatives(id)) for id in seen)


def test_edited_captions_are_rows_of_the_own_caption_and_pictures_may_have_changes_of_their_own(shards: Shards) -> None:
    """Solarising leaves no value at 128 or above; `image` itself has some."""
    made = set()
    for batch in batches(shards, 9):
        for i in range(len(batch)):
            (own,), edited = words(batch.fields["text"], i), words(batch.fields["text.edited"], i)
            assert len(edited) == 3
            assert all({*one.split()} <= {*own.split()} and one for one in edited)
            made.update((own, one) for one in edited)
        assert int(batch.fields["image.strong"].values[:, :2].max()) < 128 <= int(batch.fields["image"].values.max())
    kinds = {"swap" if len(one.split()) == len(own.split()) else "delete" for own, one in made if one != own}
    assert kinds == {"swap", "delete"}


def test_a_field_may_repeat_the_caption_of_each_sample(shards: Shards) -> None:
    drawn = set()
    for batch in batches(shards, 9):
        for i in range(len(batch)):
            assert words(batch.fields["text.again"], i) == words(batch.fields["text"], i)
            drawn.update(words(batch.fields["text.again"], i))
    assert len(drawn) > ITEMS


@pytest.mark.parametrize(
    ("caption", "count", "first"),
    [
        ("A dog runs. It is brown! Why?", 1, "A dog runs."),
        ("A dog runs. It is brown! Why?", 2, "A dog runs. It is brown!"),
        ("A dog runs. It is brown! Why?", 3, "A dog runs. It is brown! Why?"),
        ("one of 3.5 metres", 1, "one of 3.5 metres"),
        ("一只狗。它是棕色的。", 1, "一只狗。"),
        ("", 1, ""),
    ],
)
def test_a_field_may_keep_the_first_sentences_of_captions(caption: str, count: int, first: str) -> None:
    config = FieldConfig.model_validate({"from": "text", "same": True, "sentences": count})
    spec = further_fields(["text.short"], {"text.short": config}, INTAKES)
    decoder = FileDecoder({"text": INTAKES["text"]}, SplitConfig.model_validate({"source": "here"}), further=spec)
    sample = decoder.sample("key", 0, {"txt": caption.encode(), "json": b"{}"} if caption else {}, CentreView())
    if caption:
        assert isinstance(sample, Sample)
        assert sample.further == {"text.short": (first,)}
    assert first_sentences(caption, count) == first


def test_rules_make_the_caption_of_each_sample_wrong(shards: Shards) -> None:
    """`one 5` has no nouns to swap and a single trigram, so that it owns no row. Rows are drawn anew each epoch."""
    drawn: dict[str, set[tuple[str, ...]]] = {}
    for batch in batches(shards, 12, train={"source": "here", "captions": {"json.scene": 1}}):
        for i, id in enumerate(batch.ids.tolist()):
            (right,), wrong = words(batch.fields["text"], i), words(batch.fields["text.wrong"], i)
            assert len({right, *wrong}) == 1 + len(wrong) == (3 if id % 2 else 1)
            for caption in wrong:
                assert sorted(caption.split()) == sorted(right.split())
            drawn.setdefault(right, set()).add(tuple(wrong))
    assert max(map(len, drawn.values())) > 1


@pytest.mark.parametrize("worker", ["thread", "process"])
def test_rows_do_not_depend_on_the_numbers_of_ranks_and_workers(shards: Shards, worker: str) -> None:
    straight = plain(batches(shards, 5))
    ranks = [batches(shards, 5, rank=rank, world=2, workers=2, worker=worker) for rank in (0, 1)]
    assert plain([part for pair in zip(*ranks, strict=True) for part in pair]) == straight


def test_each_caption_of_a_list_keeps_its_number(shards: Shards) -> None:
    for batch in batches(shards, 4):
        field = batch.fields["text.list"]
        assert field.number is not None
        for i, id in enumerate(batch.ids.tolist()):
            captions, numbers = words(field, i), field.number[field.item == i].tolist()
            assert len(captions) == min(3, id % 5)
            assert captions == [f"grade {round(2 * number)} of {id}" for number in numbers]
        part = field.rows(2, 5)
        assert part.number is not None
        assert part.number.tolist() == field.number[2:5].tolist()


def test_a_caption_without_its_number_makes_the_sample_bad() -> None:
    reader = CaptionReader({"json.graded": 1.0}, "grade")
    good = [{"text": "a", "grade": 1}, {"text": " "}, {"text": "b", "grade": 0.5}]
    assert reader.optional({}, {"graded": good}).in_order == (("a", 1.0), ("b", 0.5))
    for bad in ("a", {"text": "a"}, {"text": "a", "grade": "high"}, {"text": "a", "grade": float("nan")}):
        with pytest.raises(BadSample, match="a caption has no number `grade`"):
            reader.optional({}, {"graded": [bad]})


def test_values_come_from_the_metadata(shards: Shards) -> None:
    """Also those of substitutes and of a part of the batch; a sample without a number has 1."""
    found = batches(shards, 4, values={"grade": "json.deep.grade", "missing": "json.none"})
    for batch in (*found, found[0].items(torch.tensor([1, 4, 6])), found[0].to(torch.device("cpu"))):
        expected = [id / 4 if id % 3 else 1.0 for id in batch.ids.tolist()]
        assert batch.values["grade"].tolist() == expected
        assert batch.values["missing"].tolist() == [1.0] * len(batch)


def test_a_stream_has_the_same_fields(shards: Shards, tmp_path: Path) -> None:
    folder = next(Path(path).parent for path in (shards.shard(0),))
    data = DataConfig.model_validate({"train": str(folder), "mode": "stream", "workers": 1})
    (batch,) = islice(StreamLoader(data, INTAKES, 8, seed=0, further=FURTHER), 1)
    assert len(batch.fields["text.more"]) == 16
    items, counts = batch.fields["text.negative"].item.unique(return_counts=True)
    assert 0 < len(items) <= 8
    assert int(counts.max()) <= 3


def test_evaluation_batches_have_the_same_fields() -> None:
    """With whole sounds of different lengths, and items without a field."""
    waves = [np.arange(200, dtype=np.float32), np.arange(90, dtype=np.float32)]
    samples = [
        Sample("a", 7, -8, {"audio": waves[0]}, ("x", "y")),
        Sample("b", 9, 3, {}, ("z",), further={"text.negative": ("n", "m")}),
        Sample("c", 4, 3, {"audio": waves[1]}),
    ]
    batch = BatchMaker(INTAKES, FURTHER).collate(samples)
    assert (batch.ids.tolist(), batch.groups.tolist()) == ([7, 9, 4], [-8, 3, 3])
    sounds = batch.fields["audio"]
    assert (sounds.item.tolist(), sounds.lengths.tolist()) == ([0, 2], [200, 90])  # type: ignore[union-attr]
    for wave, row in zip(waves, sounds.values, strict=True):
        assert row.tolist() == [*wave.tolist(), *[0.0] * (200 - len(wave))]
    assert [words(batch.fields["text"], i) for i in range(3)] == [["x"], ["z"], []]
    assert words(batch.fields["text.negative"], 1) == ["n", "m"]
    assert (len(batch.fields["image"]), len(batch.fields["image.local"])) == (0, 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rows": 2}, "r: `from` is missing"),
        ({"from": "image", "row": 2}, "r: unknown key `row`; did you mean `rows`?"),
        ({"from": "image", "rows": 0}, "r: `rows` is `0`, but should be greater than 0"),
    ],
)
def test_a_mistake_is_an_error_of_one_line(values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        build(FieldConfig, values, lambda key: "r")
    assert str(caught.value).startswith(message)


def test_each_field_has_its_own_prefix() -> None:
    """The same caption again has that of the source."""
    configs = {
        "text.passage": FieldConfig.model_validate({"from": "json.passage", "prefix": "passage: "}),
        "text.again": FieldConfig.model_validate({"from": "text", "same": True}),
        "text.plain": FieldConfig.model_validate({"from": "json.passage"}),
    }
    source = SplitConfig(source="texts", prefix="query: ")
    decoder = FileDecoder({"text": INTAKES["text"]}, source, further=further_fields(configs, configs, INTAKES))
    files = {"txt": b"who?", "json": json.dumps({"passage": "the cat"}).encode()}
    sample = decoder.sample("key", 0, files, CentreView())
    assert isinstance(sample, Sample)
    assert sample.text == ("query: who?",)
    assert sample.further == {
        "text.passage": ("passage: the cat",), "text.again": ("query: who?",), "text.plain": ("the cat",)
    }  # fmt: skip
