"""The further texts of the generated dataset, read by words alone and compared with the scene that they describe."""

import json
import re
from hashlib import sha256

import pytest

from tercet.data_pipelines.builtin.captions import captions
from tercet.data_pipelines.builtin.config import Language, WorldConfig
from tercet.data_pipelines.builtin.dataset import describe_world
from tercet.data_pipelines.builtin.languages import translated
from tercet.data_pipelines.builtin.render import render
from tercet.data_pipelines.builtin.scene import Address, Scene, Thing, scene
from tercet.data_pipelines.builtin.vocabulary import HELD_OUT, RELATIONS, TRANSLATIONS
from tercet.data_pipelines.captions.reader import CaptionReader
from tercet.data_pipelines.survey.language import TOO_SHORT, UNSURE, language
from tests.data_pipelines.test_builtin_captions import KIND, Reading, read, scenes, truth

SMALL = WorldConfig(train=400, size=16, seconds=0.5, objects=(0.3, 0.4, 0.3))
LANGUAGES = {"en": 0.0, "de": 0.0, "es": 0.0, "fr": 0.0}


def rows(count: int = 400, split: str = "train", **options: object) -> list[dict[str, object]]:
    config = WorldConfig(**{**dict(SMALL), **options})
    return [render(config, split, index) for index in range(count)]  # type: ignore[arg-type,misc]


def metas(count: int = 400, split: str = "train", **options: object) -> list[dict[str, object]]:
    return [json.loads(row["json"]) for row in rows(count, split, **options)]  # type: ignore[arg-type]


def understood(caption: str, language: str) -> Reading:
    """The attributes of each object and the relation, by the words alone: endings and the order do not matter."""
    words = TRANSLATIONS[language]
    meaning = {form: name for name, forms in words.items() for form in forms.split(", ")[0].split("/")}
    stated = next((name for name in RELATIONS if f" {words[name]}" in caption), None)
    parts = re.split(f" {words[stated]}| {words['and']} " if stated else " and ", caption)
    said = [[meaning.get(word[: len(word) - cut]) for word in part.split() for cut in range(3)] for part in parts]
    return [{KIND[word]: word for word in part if word} for part in said], stated


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
    more = rows(40, missing={"text": 0.2}, mismatched=0.2, languages=LANGUAGES, rewrites=2, partly=0.0)
    for before, after in zip(plain, more, strict=True):
        old, new = json.loads(before.pop("json")), json.loads(after.pop("json"))
        assert before == after
        assert {key: new[key] for key in old} == old
        assert new.keys() - old.keys() == ({"captions", "rewrites", "relevance"} if "txt" in after else set())


@pytest.mark.parametrize("code", ["de", "es", "fr"])
def test_translations_name_all_facts_and_nothing_else(code: Language) -> None:
    for shown in scenes(300):
        caption = translated(shown, code, 0.0)
        assert understood(caption, code) == truth(shown), caption
    assert all(read(translated(shown, "en", 0.0)) == truth(shown) for shown in scenes(100))


AGREEING = {
    "de": "ein kleiner gestreifter roter Kreis über einer großen einfarbigen weißen Raute und ein kleines "
    "gepunktetes grünes Herz",
    "es": "un círculo pequeño rojo rayado encima de un rombo grande blanco liso y un corazón pequeño verde punteado",
    "fr": "un petit cercle rouge rayé au-dessus d'un grand losange blanc uni et un petit cœur vert pointillé",
}
FEMININE = {
    "de": "ein kleiner einfarbiger weißer Stern links von einem großen gepunkteten violetten Kreuz",
    "es": "una estrella pequeña blanca lisa a la izquierda de una cruz grande morada punteada",
    "fr": "une petite étoile blanche unie à gauche d'une grande croix violette pointillée",
}


@pytest.mark.parametrize("code", ["de", "es", "fr"])
def test_articles_and_adjectives_agree_with_their_noun(code: Language) -> None:
    circle, diamond = Thing("circle", "red", "small", "striped"), Thing("diamond", "white", "large", "plain")
    heart = Thing("heart", "green", "small", "dotted")
    star, cross = Thing("star", "white", "small", "plain"), Thing("cross", "purple", "large", "dotted")
    here = Address(0, "val", 0)
    assert translated(Scene((circle, diamond, heart), "above", here), code, 0.0) == AGREEING[code]
    assert translated(Scene((star, cross), "left", here), code, 0.0) == FEMININE[code]


@pytest.mark.parametrize("code", ["de", "en", "es", "fr"])
def test_a_language_identifier_takes_no_language_for_another(code: Language) -> None:
    found = [language(translated(shown, code, 0.0)) for shown in scenes(200)]
    assert set(found) <= {code, UNSURE, TOO_SHORT}
    assert found.count(code) > 100


def test_each_language_has_its_own_share_of_wrong_words_in_training_only() -> None:
    given = {"de": 0.0, "es": 0.1, "fr": 0.4}
    wrong: dict[str, list[bool]] = {code: [] for code in given}
    for index, meta in enumerate(metas(languages=given, generic=0.0)):
        things, relation = truth(scene(SMALL, "train", index))
        for code, caption in meta["captions"].items():  # type: ignore[attr-defined]
            said, stated = understood(caption, code)
            wrong[code] += [
                part[name] != thing[name] for part, thing in zip(said, things, strict=True) for name in thing
            ]
            wrong[code] += [stated != relation] if relation else []
    for code, share in given.items():
        count = len(wrong[code])
        assert sum(wrong[code]) / count == pytest.approx(share, abs=4 * (share * (1 - share) / count) ** 0.5)
    for index, meta in enumerate(metas(30, "val", languages=given)):
        shown = truth(scene(SMALL, "val", index))
        assert all(understood(text, code) == shown for code, text in meta["captions"].items())  # type: ignore[attr-defined]


def test_wrong_words_do_not_mention_held_out_pairings() -> None:
    for shown in scenes(300):
        said, _ = read(translated(shown, "en", 0.5))
        assert all((thing["shape"], thing["colour"]) not in HELD_OUT for thing in said)


def test_rewrites_are_true_and_some_leave_attributes_out() -> None:
    shortened = []
    for index, meta in enumerate(metas(rewrites=4)):
        shown = scene(SMALL, "train", index)
        things, relation = truth(shown)
        assert len(meta["rewrites"]) == 4  # type: ignore[arg-type]
        for caption in meta["rewrites"]:  # type: ignore[attr-defined]
            said, stated = read(caption)
            assert all(part.items() <= thing.items() for part, thing in zip(said, things, strict=True)), caption
            assert stated in (None, relation)
            short = any(len(part) < 4 for part in said)
            shortened += [] if shown.generic else [short]
            assert short or not shown.generic
    assert sum(shortened) / len(shortened) == pytest.approx(1 / 3, abs=0.06)


def test_partly_right_captions_have_the_relevance_that_their_words_have() -> None:
    written = rows(partly=0.5, mismatched=0.2, captions=1, generic=0.0)
    found = [json.loads(row["json"]) for row in written]  # type: ignore[arg-type]
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
    assert {meta["relevance"] for meta in metas(20, "val", partly=1.0)} == {1.0}


def test_texts_of_a_mismatched_row_describe_the_scene_of_its_caption() -> None:
    for row in rows(100, mismatched=1.0, captions=1, generic=0.0, languages={"en": 0}, rewrites=2):
        told = read(str(row["txt"]))
        meta = json.loads(row["json"])  # type: ignore[arg-type]
        assert read(meta["captions"]["en"]) == told
        for rewrite in meta["rewrites"]:
            assert all(part.items() <= thing.items() for part, thing in zip(read(rewrite)[0], told[0], strict=True))


def test_only_training_samples_have_fewer_captions() -> None:
    for split, count in (("train", 2), ("val", 4)):
        for index, row in enumerate(rows(20, split, captions=2)):
            assert str(row["txt"]).split("\n") == captions(scene(SMALL, split, index))[:count]  # type: ignore[arg-type]


def test_every_text_is_a_place_of_captions() -> None:
    (meta,) = metas(1, languages=LANGUAGES, rewrites=3)
    for place in ("json.captions.de", "json.captions.en", "json.rewrites"):
        assert CaptionReader({place: 1.0})({}, meta).all


@pytest.mark.parametrize(
    "options", [{"languages": {"it": 0}}, {"languages": {"de": 1.5}}, {"partly": -1}, {"rewrites": 0}]
)
def test_impossible_texts_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        WorldConfig(**options)  # type: ignore[arg-type]
