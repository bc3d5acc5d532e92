"""Captions of the generated dataset in several languages, read by words alone and compared with the scene."""

import re

import pytest

from tercet.data_pipelines.builtin.config import Language
from tercet.data_pipelines.builtin.languages import translated
from tercet.data_pipelines.builtin.scene import Address, Scene, Thing, scene
from tercet.data_pipelines.builtin.vocabulary import HELD_OUT, RELATIONS, TRANSLATIONS
from tercet.data_pipelines.survey.language import TOO_SHORT, UNSURE, language
from tests.data_pipelines.test_builtin_captions import KIND, Reading, read, scenes, truth
from tests.data_pipelines.test_builtin_texts import SMALL, metas


def understood(caption: str, language: str) -> Reading:
    """The attributes of each object and the relation, by the words alone: endings and the order do not matter."""
    words = TRANSLATIONS[language]
    meaning = {form: name for name, forms in words.items() for form in forms.split(", ")[0].split("/")}
    stated = next((name for name in RELATIONS if f" {words[name]}" in caption), None)
    parts = re.split(f" {words[stated]}| {words['and']} " if stated else " and ", caption)
    said = [[meaning.get(word[: len(word) - cut]) for word in part.split() for cut in range(3)] for part in parts]
    return [{KIND[word]: word for word in part if word} for part in said], stated


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
        for code, caption in meta["captions"].items():
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
        assert all(understood(text, code) == shown for code, text in meta["captions"].items())


def test_wrong_words_do_not_mention_held_out_pairings() -> None:
    for shown in scenes(300):
        said, _ = read(translated(shown, "en", 0.5))
        assert all((thing["shape"], thing["colour"]) not in HELD_OUT for thing in said)
