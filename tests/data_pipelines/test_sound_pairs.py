"""Samples made of two sounds: waveforms and captions by a naive oracle, partners, groups, and that all of it repeats.

Every sound is constant at a level that names its sample, so that a pair shows what it was made of.
"""

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.batches.eval_loader import EvalLoader
from tercet.data_pipelines.batches.loader import Loader
from tercet.data_pipelines.config import DataConfig, SplitConfig
from tercet.data_pipelines.decode.sound_pairs import PairDecoder, decoder_of
from tercet.data_pipelines.fields import FieldConfig, further_fields
from tercet.data_pipelines.sample import AudioIntake, Batch, ImageIntake, Intake, Sample, TextIntake
from tercet.data_pipelines.shards.read import open_shards
from tercet.data_pipelines.sound_pairs.waves import at_once, then
from tercet.data_pipelines.sound_pairs.wording import filled
from tercet.data_pipelines.source import Source
from tercet.data_pipelines.sources.open import open_split
from tercet.data_pipelines.transforms.crop import CentreView, random_views
from tercet.errors import UserError

ITEMS, RATE, SECONDS = 24, 8000, 0.02
WINDOW = 160
LENGTHS = (40, 100, 300)  # of the sounds: shorter than half of the window, longer than half, and longer than all
FIELDS = {"text.pair": {"from": "json.pair"}, "text.negative": {"from": "json.negatives", "rows": 3}}
WORDS = {"then": ("{a} then {b}", "{b} after {a}"), "while": ("{a} while {b}",)}
CONFIG = {"joins": {"then": 2, "while": 1}, "templates": WORDS, "wrong": ["order", "join", "single"], "fade": 0.0}


def tokenize(captions: Any) -> torch.Tensor:
    return torch.tensor([list(caption.encode().ljust(24)[:24]) for caption in captions])


INTAKES: dict[str, Intake] = {
    "image": ImageIntake((4, 4)),
    "audio": AudioIntake(RATE, SECONDS),
    "text": TextIntake(tokenize),
}
FURTHER = further_fields(FIELDS, {name: FieldConfig.model_validate(one) for name, one in FIELDS.items()}, INTAKES)


def level(item: int) -> float:
    return (item + 1) / 64


@pytest.fixture
def shards(pack: Callable[..., Path], sound: Callable[..., bytes]) -> Source:
    """Sample i says `s5.` for i = 5. Three samples each are a group; samples 20 and 21 have the same caption."""

    def item(i: int) -> dict[str, Any]:
        caption = f"s{20 if i == 21 else i}."
        files = {"txt": caption, "flac": sound(np.full(LENGTHS[i % 3], level(i)), RATE)}
        return {"__key__": f"{i:02d}", **files, "json": json.dumps({"group": f"g{i // 3}"}).encode()}

    items = [item(i) for i in range(ITEMS)]
    return open_shards([str(pack("0.tar", items[:10])), str(pack("1.tar", items[10:]))])


def split(**changes: Any) -> SplitConfig:
    return SplitConfig(source="here", sound_pairs={**CONFIG, **changes})


def decoder_with(source: Source, **changes: Any) -> PairDecoder:
    decoder = decoder_of(source, INTAKES, split(**changes), further=FURTHER)
    assert isinstance(decoder, PairDecoder)
    return decoder


def made(source: Source, epochs: int = 6, **changes: Any) -> list[Sample]:
    """All samples in so many epochs."""
    decoder, found = decoder_with(source, **changes), []
    for epoch in range(epochs):
        ids = list(range(ITEMS))
        found += decoder(ids, random_views("s", 3, [epoch] * ITEMS, ids, None))
    assert not any(isinstance(one, BadSample) for one in found)
    return [one for one in found if isinstance(one, Sample)]


def parts(sample: Sample) -> tuple[int, int]:
    a, b = sample.meta["of"]  # type: ignore[misc]
    return int(a), int(b)  # type: ignore[has-type]


def naive(join: str, a: int, b: int, gap: int = 0) -> list[list[float]]:
    """All sounds that may come of two samples: at once, the shorter one may start anywhere."""
    longest = WINDOW if join == "while" else (WINDOW - gap) // 2
    first, second = ([level(i)] * min(LENGTHS[i % 3], longest) for i in (a, b))
    if join == "then":
        return [[*first, *[0.0] * gap, *second]]
    length = max(len(first), len(second))
    return [
        [
            (first[t - x] if 0 <= t - x < len(first) else 0) + (second[t - y] if 0 <= t - y < len(second) else 0)
            for t in range(length)
        ]
        for x in range(length - len(first) + 1)
        for y in range(length - len(second) + 1)
    ]


def name(item: int) -> str:
    return f"s{20 if item == 21 else item}"


def test_sounds_captions_and_wrong_captions_are_those_of_the_two_samples(shards: Source) -> None:
    worded = set()
    for sample in made(shards):
        (a, b), join = parts(sample), str(sample.meta["join"])
        assert sample.audio is not None
        expected = naive(join, a, b)
        assert any(np.allclose(sample.audio, wave, atol=1e-4) for wave in expected if len(wave) == len(sample.audio))
        first, second = name(a), name(b)
        (caption,) = sample.text
        wrong = {one["kind"]: one["text"] for one in sample.meta["negatives"]}  # type: ignore[attr-defined]
        if join == "then":
            words = caption.replace(first, "a").replace(second, "b") if first not in second else None
            assert caption in (f"{first} then {second}", f"{second} after {first}")
            swapped = f"{second} then {first}" if " then " in caption else f"{first} after {second}"
            assert (wrong["order"], wrong["join"]) == (swapped, f"{first} while {second}")
            worded.add(words)
        else:
            assert caption == f"{first} while {second}"
            assert wrong["join"] in (f"{first} then {second}", f"{second} after {first}")
            assert "order" not in wrong, "both orders are right"
        assert wrong["single"].rstrip(".") in (first, second)
        assert sample.meta.get("sounds") == ([first, second] if join == "then" else None)
        assert sample.captions("text.pair") == sample.text
        assert sorted(sample.captions("text.negative")) == sorted(wrong.values())
    assert worded >= {"a then b", "b after a"}


def test_a_partner_is_of_another_group_and_has_another_caption(shards: Source) -> None:
    pairs = [parts(sample) for sample in made(shards, epochs=40)]
    assert all(a // 3 != b // 3 for a, b in pairs)
    assert not any({a, b} == {20, 21} for a, b in pairs)
    assert [a for a, _ in pairs] == list(range(ITEMS)) * 40
    assert {b for _, b in pairs} == set(range(ITEMS))
    assert len({b for a, b in pairs if a == 5}) > 12, "of 21"


def test_groups_are_those_of_both_sounds_in_their_order(shards: Source) -> None:
    groups: dict[object, set[int]] = {}
    for sample in made(shards, epochs=60):
        a, b = (one // 3 for one in parts(sample))
        join = str(sample.meta["join"])
        groups.setdefault((join, a, b) if join == "then" else (join, *sorted((a, b))), set()).add(sample.group)
    assert all(len(found) == 1 for found in groups.values())
    assert len({min(found) for found in groups.values()}) == len(groups)
    assert min(min(found) for found in groups.values()) >= 0


def test_joins_are_drawn_by_their_shares(shards: Source) -> None:
    joins = [str(sample.meta["join"]) for sample in made(shards, epochs=40)]
    assert joins.count("then") / len(joins) == pytest.approx(2 / 3, abs=0.06)
    assert {str(sample.meta["join"]) for sample in made(shards, joins={"while": 3})} == {"while"}


def test_a_gap_is_silent_and_all_fits_the_window(shards: Source) -> None:
    gaps = set()
    for sample in made(shards, joins={"then": 1}, gap=[0.002, 0.004]):
        a, b = parts(sample)
        assert sample.audio is not None
        (silent,) = np.nonzero(sample.audio == 0)
        gap = len(silent)
        gaps.add(gap)
        assert 16 <= gap <= 32
        np.testing.assert_allclose(sample.audio, naive("then", a, b, gap)[0], atol=1e-4)
        assert len(sample.audio) <= WINDOW
    assert len(gaps) > 8


def test_a_fade_is_linear_on_both_sides_of_the_joint() -> None:
    wave = then(np.ones(6, np.float32), np.ones(3, np.float32), gap=2, fade=4)
    np.testing.assert_allclose(wave, [1, 1, 7 / 8, 5 / 8, 3 / 8, 1 / 8, 0, 0, 1 / 6, 3 / 6, 5 / 6])
    a, b = np.ones(2, np.float32), np.ones(2, np.float32)
    np.testing.assert_array_equal(then(a, b, 0, 0), np.ones(4))
    np.testing.assert_array_equal(a, [1, 1])


def test_levels_are_decibels_of_the_power() -> None:
    random = np.random.default_rng(0)
    a, b = (random.standard_normal(1000).astype(np.float32) * scale for scale in (1.0, 7.0))
    second = at_once(a, b, 6.0, 0.5) - a
    assert 10 * np.log10(np.mean(a**2) / np.mean(second**2)) == pytest.approx(6, abs=0.01)
    np.testing.assert_allclose(second / b, np.full(1000, (second / b)[0]), rtol=1e-3)
    np.testing.assert_array_equal(at_once(a, b, None, 0.5), a + b)
    np.testing.assert_array_equal(at_once(a, np.zeros(4, np.float32), 6.0, 0.5), a)


def test_captions_lose_the_full_stops_at_their_ends_only() -> None:
    assert filled("{a}, then {b}", "A dog barks at 3.30 p.m.", "{a} car! ") == "A dog barks at 3.30 p.m, then {a} car"


def rows(batch: Batch) -> list[object]:
    return [
        (int(batch.ids[at]), int(batch.groups[at]), *(values.values[values.item == at].tolist() for _, values in batch))
        for at in range(len(batch))
    ]


def load(source: Source, count: int, **options: Any) -> list[Batch]:
    data = {name: options.pop(name) for name in list(options) if name in DataConfig.model_fields}
    train = {"events": {"source": "here"}, "pairs": {"source": "here", "sound_pairs": CONFIG}}
    config = DataConfig.model_validate({"train": train, "streams": 4, "window": 6, "workers": 0, "crop": None} | data)
    sources = {"events": source, "pairs": source}
    return list(islice(Loader(config, sources, INTAKES, 8, seed=5, further=FURTHER, **options), count))


def test_samples_do_not_depend_on_the_numbers_of_ranks_and_workers(shards: Source) -> None:
    straight = [row for batch in load(shards, 9) for row in rows(batch)]
    ranks = [load(shards, 9, rank=rank, world=2, workers=2, worker="thread") for rank in (0, 1)]
    assert [row for pair in zip(*ranks, strict=True) for batch in pair for row in rows(batch)] == straight
    for options in ({"workers": 1, "worker": "process"}, {"keep": True}):
        assert [row for batch in load(shards, 9, **options) for row in rows(batch)] == straight


def test_a_share_of_the_samples_stays_alone(shards: Source) -> None:
    found = [
        decoder_with(shards, share=0.4)(range(ITEMS), random_views("s", 3, [epoch] * ITEMS, range(ITEMS), None))
        for epoch in range(40)
    ]
    samples = [one for some in found for one in some if isinstance(one, Sample)]
    made = [one for one in samples if "pair" in one.meta]
    assert len(made) / len(samples) == pytest.approx(0.4, abs=0.06)
    for one in samples:
        if "pair" not in one.meta:
            assert (one.text, one.meta) == ((f"{name(one.id)}.",), {"group": f"g{one.id // 3}"})
            assert one.audio == pytest.approx(level(one.id), abs=1e-4)


def test_a_resumed_loader_goes_on_with_the_same_samples(shards: Source) -> None:
    straight = load(shards, 8)
    resumed = load(shards, 4, start=straight[3].cursors)
    assert list(map(rows, straight[4:])) == list(map(rows, resumed))


def test_only_pairs_have_the_fields_of_pairs(shards: Source) -> None:
    for batch in load(shards, 4):
        made = {at for at, id in enumerate(batch.ids.tolist()) if id >= ITEMS}
        assert 0 < len(made) < len(batch)
        assert set(batch.fields["text.pair"].item.tolist()) == made
        assert len(batch.fields["audio"]) == len(batch.fields["text"]) == len(batch)
        pairs = batch.fields["text"].values[[*sorted(made)]]
        assert torch.equal(pairs, batch.fields["text.pair"].values)


def test_epochs_differ_and_evaluation_does_not(shards: Source) -> None:
    decoder = decoder_with(shards)
    ids = list(range(ITEMS))

    def partners(epoch: int) -> list[object]:
        found = decoder(ids, random_views("s", 3, [epoch] * ITEMS, ids, None))
        return [parts(one) for one in found if isinstance(one, Sample)]

    assert partners(0) == partners(0) != partners(1)

    def evaluated(**options: int) -> dict[int, tuple[object, ...]]:
        loader = EvalLoader(decoder_with(shards), INTAKES, 4, workers=0, **options)
        return {one.id: (one.meta, one.group, one.text) for batch in loader for one in batch.samples}

    whole = evaluated()
    assert sorted(whole) == ids
    assert evaluated(rank=0, world=2) | evaluated(rank=1, world=2) == whole
    assert len({str(meta["of"]) for meta, _, _ in whole.values()}) == ITEMS  # type: ignore[index]


def test_partners_are_drawn_from_the_list_of_a_source(shards: Source, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("id\n" + "\n".join(map(str, range(0, ITEMS, 2))), encoding="utf-8")
    train = {"pairs": {"source": "here", "sound_pairs": CONFIG, "list": str(tmp_path / "list.csv")}}
    config = DataConfig.model_validate({"train": train, "streams": 4, "window": 6, "workers": 0, "crop": None})
    loader = Loader(config, {"pairs": shards}, INTAKES, 4, seed=5, further=FURTHER)
    captions = [bytes(row.tolist()).decode() for batch in islice(loader, 12) for row in batch.fields["text"].values]
    named = {int(word[1:]) for caption in captions for word in caption.split() if word[1:].isdecimal()}
    assert named <= set(range(0, ITEMS, 2))
    assert len(named) == ITEMS // 2


def test_tables_have_pairs_too(sound: Callable[..., bytes], tmp_path: Path) -> None:
    lines = ["audio,caption"]
    for i in range(6):
        (tmp_path / f"{i}.flac").write_bytes(sound(np.full(40, level(i)), RATE))
        lines.append(f"{i}.flac,s{i}")
    (tmp_path / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    config = SplitConfig(source=str(tmp_path / "t.csv"), sound_pairs={"fade": 0.0})
    source = open_split(DataConfig.model_validate({"train": str(tmp_path / "t.csv")}), config)
    found = decoder_of(source, INTAKES, config)(range(6), [CentreView()] * 6)
    for i, one in enumerate(found):
        assert isinstance(one, Sample)
        assert one.audio is not None
        assert one.audio[:40] == pytest.approx(level(i), abs=1e-4)
        other = round(float(one.audio[-1]) * 64) - 1
        assert other != i
        assert f"s{other}" in one.text[0]


def test_samples_that_cannot_be_paired_are_bad(pack: Callable[..., Path], sound: Callable[..., bytes]) -> None:
    """Without a caption, or where every sample is of one group."""
    wave = sound(np.zeros(40), RATE)
    alone = open_shards(
        str(pack("a.tar", [{"__key__": "a", "flac": wave}, {"__key__": "b", "flac": wave, "txt": "b"}]))
    )
    found = decoder_with(alone)([0, 1], [CentreView()] * 2)
    reasons = [one.reason for one in found if isinstance(one, BadSample)]
    assert reasons == [
        "sound_pairs: no sound or no caption",
        "sound_pairs: no sound with another group and caption among 32",
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"joins": {"then": 0}}, "shares are 0 or more, and one is above 0"),
        ({"templates": {"then": "{a} and then"}}, "needs each of the slots {a} and {b} once"),
        ({"gap": [0.3, 0.1]}, "[0.3, 0.1] is not a range; give the smaller number first"),
        ({"gap": [-1, 0]}, "not a range of seconds"),
    ],
)
def test_a_mistake_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="sound_pairs") as caught:
        SplitConfig(source="here", sound_pairs=values)
    assert message in str(caught.value)


def test_a_gap_longer_than_the_window_and_a_missing_tower_are_refused(shards: Source) -> None:
    with pytest.raises(UserError, match=r"sound_pairs.gap reaches 0.5 s of the 0.02 s that the tower hears"):
        decoder_with(shards, gap=[0, 0.5])
    without = {name: intake for name, intake in INTAKES.items() if name != "audio"}
    with pytest.raises(UserError, match="the model needs a tower of audio"):
        decoder_of(shards, without, split())
