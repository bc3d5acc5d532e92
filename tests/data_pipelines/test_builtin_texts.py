"""The further texts of the generated dataset, read by words alone and compared with the scene that they describe."""

import json
import re
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import webdataset

from tercet.data_pipelines.builtin.captions import captions
from tercet.data_pipelines.builtin.config import SPLITS, WorldConfig
from tercet.data_pipelines.builtin.dataset import describe_world, generate
from tercet.data_pipelines.builtin.picture import picture
from tercet.data_pipelines.builtin.render import encode_audio, encode_image, render
from tercet.data_pipelines.builtin.scene import Thing, scene
from tercet.data_pipelines.builtin.sound import sound
from tercet.data_pipelines.builtin.vocabulary import HELD_OUT
from tercet.data_pipelines.captions.reader import CaptionReader
from tercet.data_pipelines.survey.check import check
from tests.data_pipelines.test_builtin_captions import CANONICAL, KIND, MEANING, RELATED, Reading, read, truth

SMALL = WorldConfig(train=400, size=16, seconds=0.5, objects=(0.3, 0.4, 0.3))
LANGUAGES = {"en": 0.0, "de": 0.0, "es": 0.0, "fr": 0.0}
OPTIONS = {"languages": LANGUAGES, "rewrites": 2, "partly_wrong": 0.0, "synthetic": 0.1, "long": 0.1, "grades": 3}
NUMBERS = {1: " one ", 2: " two ", 3: " three "}
MADE_ANEW = {"synthetic", "long", "sentences", "graded"}


def rows(count: int = 400, split: str = "train", **options: object) -> list[dict[str, Any]]:
    config = WorldConfig(**{**dict(SMALL), **options})
    return [render(config, split, index) for index in range(count)]


def metas(count: int = 400, split: str = "train", **options: object) -> list[dict[str, Any]]:
    return [json.loads(row["json"]) for row in rows(count, split, **options)]


def test_worlds_without_the_new_options_are_those_that_were_always_written() -> None:
    """If a digest changes, the same config writes another dataset: raise its edition, and update the digests here."""
    config = WorldConfig(
        train=60, val=12, combinations=8, seconds=0.5, mismatched=0.2,
        missing={"text": 0.1, "image": 0.1}, duplicates=0.1, samples_per_shard=20,
    )  # fmt: skip
    assert describe_world(WorldConfig())["digest"] == "774ca4e75e9db2a89199c1f3b5e12eb9"
    assert describe_world(config)["digest"] == "f7feb8b310701253ca7ff1289af0cca3"
    written = (
        render(config, split, i) for split in ("train", "val", "combinations") for i in range(config.samples(split))
    )
    texts = "".join(f"{row['json']!s}{row.get('txt', '')!s}" for row in written)
    assert sha256(texts.encode()).hexdigest()[:16] == "95639cc6d55e7821"


def test_options_only_add_keys() -> None:
    plain = rows(40, missing={"text": 0.2}, mismatched=0.2)
    more = rows(40, missing={"text": 0.2}, mismatched=0.2, **OPTIONS)
    for before, after in zip(plain, more, strict=True):
        old, new = json.loads(before.pop("json")), json.loads(after.pop("json"))
        assert before == after
        assert {key: new[key] for key in old} == old
        assert new.keys() - old.keys() == MADE_ANEW | (
            {"captions", "rewrites", "relevance"} if "txt" in after else set()
        )


def test_rewrites_are_true_and_some_leave_attributes_out() -> None:
    shortened = []
    for index, meta in enumerate(metas(rewrites=4)):
        shown = scene(SMALL, "train", index)
        things, relation = truth(shown)
        assert len(meta["rewrites"]) == 4
        for caption in meta["rewrites"]:
            said, stated = read(caption)
            assert all(part.items() <= thing.items() for part, thing in zip(said, things, strict=True)), caption
            assert stated in (None, relation)
            short = any(len(part) < 4 for part in said)
            shortened += [] if shown.generic else [short]
            assert short or not shown.generic
    assert sum(shortened) / len(shortened) == pytest.approx(1 / 3, abs=0.06)


def test_partly_wrong_captions_have_the_relevance_that_their_words_have() -> None:
    written = rows(partly_wrong=0.5, mismatched=0.2, captions=1, generic=0.0)
    found = [json.loads(row["json"]) for row in written]
    for index, (meta, row) in enumerate(zip(found, written, strict=True)):
        things, relation = truth(scene(SMALL, "train", index))
        said, stated = read(str(row["txt"]))
        pairs = [
            (word, dict(enumerate(things)).get(n, {}).get(name))
            for n, part in enumerate(said)
            for name, word in part.items()
        ]
        pairs += [(stated, relation)] if stated else []
        assert meta["relevance"] == sum(word == right for word, right in pairs) / len(pairs)
        right = meta["relevance"] == 1
        assert bool(meta["negatives"]) == right
        assert all((thing["shape"], thing["colour"]) not in HELD_OUT for thing in said)
    matched = [meta["relevance"] for meta in found if not meta["mismatched"]]
    assert sum(value != 1 for value in matched) / len(matched) == pytest.approx(
        0.5, abs=4 * (0.25 / len(matched)) ** 0.5
    )
    assert 0 not in matched
    assert {meta["relevance"] for meta in metas(20, "val", partly_wrong=1.0)} == {1.0}


def test_texts_of_a_mismatched_row_describe_the_scene_of_its_caption() -> None:
    for row in rows(100, mismatched=1.0, captions=1, generic=0.0, languages={"en": 0}, rewrites=2):
        told = read(str(row["txt"]))
        meta = json.loads(row["json"])
        assert read(meta["captions"]["en"]) == told
        for rewrite in meta["rewrites"]:
            assert all(part.items() <= thing.items() for part, thing in zip(read(rewrite)[0], told[0], strict=True))


def test_only_training_samples_have_fewer_captions() -> None:
    for split, count in (("train", 2), ("val", 4)):
        for index, row in enumerate(rows(20, split, captions=2)):
            assert str(row["txt"]).split("\n") == captions(scene(SMALL, split, index))[:count]


def test_synthetic_captions_name_shapes_and_colours_and_some_are_wrong() -> None:
    wrong = []
    for index, meta in enumerate(metas(synthetic=0.25, mismatched=0.5)):
        things, _ = truth(scene(SMALL, "train", index))
        said, stated = read(meta["synthetic"])
        assert [part.keys() for part in said] == [{"shape", "colour"}] * len(things)
        assert stated is None
        false = [part[name] != thing[name] for part, thing in zip(said, things, strict=True) for name in part]
        assert sum(false) <= 1
        assert all((part["shape"], part["colour"]) not in HELD_OUT for part in said)
        wrong.append(any(false))
    assert sum(wrong) / len(wrong) == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / len(wrong)) ** 0.5)
    for index, meta in enumerate(metas(30, "val", synthetic=1.0)):
        said, _ = read(meta["synthetic"])
        things, _ = truth(scene(SMALL, "val", index))
        assert all(part.items() <= thing.items() for part, thing in zip(said, things, strict=True))


def claims(sentence: str) -> Reading:
    """What a sentence of a long caption says of one object or two: attributes, and the relation."""
    found = re.search(rf" {RELATED} the ", sentence)
    parts = [re.findall(r"\w+", part) for part in sentence.split(found[0] if found else "|")]
    words = [[CANONICAL.get(word, word) for word in part] for part in parts]
    relation = MEANING[CANONICAL.get(found[1], found[1])] if found else None
    return [{KIND[word]: word for word in part if word in KIND} for part in words], relation


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_long_captions_name_everything_in_order_and_a_share_of_their_sentences_is_wrong(share: float) -> None:
    wrong = []
    for index, meta in enumerate(metas(long=share)):
        things, relation = truth(scene(SMALL, "train", index))
        assert meta["long"] == " ".join(meta["sentences"])
        count, *rest = meta["sentences"]
        wrong.append(NUMBERS[len(things)] not in count)
        coarse = [{name: thing[name] for name in ("size", "colour", "shape")} for thing in things]
        right = [([seen], None) for pair in zip(coarse, things, strict=True) for seen in pair]
        right += [(coarse[:2], relation)] if relation else []
        for sentence, (parts, stated) in zip(rest, right, strict=True):
            said, related = claims(sentence)
            assert [part.keys() for part in said] == [part.keys() for part in parts], sentence
            false = [part[name] != true[name] for part, true in zip(said, parts, strict=True) for name in part]
            wrong.append(sum(false) + (related != stated) > 0)
            assert sum(false) + (related != stated) <= 1
            assert all((part["shape"], part["colour"]) not in HELD_OUT for part in said)
    assert sum(wrong) / len(wrong) == pytest.approx(share, abs=4 * (share * (1 - share) / len(wrong)) ** 0.5)


def test_graded_captions_go_from_right_to_wrong() -> None:
    for index, meta in enumerate(metas(200, grades=4, mismatched=0.5)):
        things, relation = truth(scene(SMALL, "train", index))
        assert [one["grade"] for one in meta["graded"]] == [3, 2, 1, 0]
        shares = []
        for one in meta["graded"]:
            said, stated = read(one["text"])
            pairs = [(part[name], thing[name]) for part, thing in zip(said, things, strict=True) for name in thing]
            pairs += [(stated, relation)] if relation else []
            shares.append(sum(word == right for word, right in pairs) / len(pairs))
            assert all((part["shape"], part["colour"]) not in HELD_OUT for part in said)
        assert [one["relevance"] for one in meta["graded"]] == shares
        assert (shares[0], shares[-1]) == (1, 0)
        assert shares == sorted(set(shares), reverse=True)


def test_texts_do_not_depend_on_processes_and_shards(tmp_path: Path) -> None:
    options = {**OPTIONS, "train": 9, "val": 3, "combinations": 2}
    config = WorldConfig(**{**dict(SMALL), **options, "workers": 2, "samples_per_shard": 4})
    alone = WorldConfig(**{**dict(SMALL), **options})
    world = generate(config, tmp_path)
    for split in SPLITS:
        urls = [str(path) for path in sorted((world / split).glob("*.tar"))]
        found = [sample["json"] for sample in webdataset.WebDataset(urls, shardshuffle=False)]
        assert found == [str(render(alone, split, index)["json"]).encode() for index in range(alone.samples(split))]


def test_a_world_with_all_texts_passes_the_check(tmp_path: Path) -> None:
    config = WorldConfig(**{**dict(SMALL), **OPTIONS, "train": 30, "val": 0, "combinations": 0})
    found = check(str(generate(config, tmp_path) / "train"), workers=1)
    assert (found.samples, found.bad, dict(found.notes)) == (30, 0, {})


def test_every_text_is_a_place_of_captions() -> None:
    (meta,) = metas(1, **OPTIONS)
    for key in ("captions.de", "captions", "rewrites", "synthetic", "long", "sentences", "graded"):
        assert CaptionReader({f"json.{key}": 1.0})({}, meta).all


@pytest.mark.parametrize(
    "options",
    [
        {"languages": {"it": 0}},
        {"languages": {"de": 1.5}},
        {"partly_wrong": -1},
        {"rewrites": 0},
        {"captions": 5},
        {"synthetic": 2},
        {"long": -0.1},
        {"grades": 1},
        {"long": True},
    ],
)
def test_impossible_texts_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        WorldConfig(**options)


def test_negative_media_show_what_the_contrasts_say() -> None:
    """The picture and the sound of a wrong caption are those of the scene that it describes. They only add files."""
    both = {"negative_media": ("image", "audio"), "mismatched": 0.2, "image_format": "png"}
    kinds, empty = set(), 0
    for index, (before, after) in enumerate(
        zip(rows(60, mismatched=0.2, image_format="png"), rows(60, **both), strict=True)
    ):
        old, new = json.loads(before.pop("json")), json.loads(after.pop("json"))
        told = new.pop("contrasts")
        assert (old, before) == (new, {name: after[name] for name in before})
        further = after.keys() - before.keys()
        shown = scene(WorldConfig(**{**dict(SMALL), **both}), "train", index)
        if not new["wrong"]:
            assert (told, further) == ([], set())
            empty += 1
            continue
        expected = set()
        for place, wrong in enumerate(new["negatives"]):
            kinds.add(wrong["kind"])
            things, relation = read(told[place])
            assert (things, relation) == read(wrong["text"]), "one wording of the same scene"
            other = replace(shown, objects=tuple(Thing(**thing) for thing in things), relation=relation)
            assert after[f"negative.{place}.png"] == encode_image(picture(other, 16), "png")
            expected.add(f"negative.{place}.png")
            if wrong["kind"] != "relation":
                assert after[f"negative.{place}.flac"] == encode_audio(sound(other, 16_000, 0.5), 16_000)
                expected.add(f"negative.{place}.flac")
        assert further == expected
    assert (kinds, empty > 5) == ({"swapped", "replaced", "relation"}, True)
