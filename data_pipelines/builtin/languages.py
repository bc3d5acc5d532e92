"""Captions in several languages: one full description of the scene in each.

The vocabulary has the words; here is how they are ordered and how articles and adjectives agree with a noun: in gender
and, in German, in case. After a preposition, German has the dative.
"""

from dataclasses import dataclass

from tercet.data_pipelines.builtin.captions import describe
from tercet.data_pipelines.builtin.config import Language
from tercet.data_pipelines.builtin.facts import facts, mistaken
from tercet.data_pipelines.builtin.scene import Scene, Thing
from tercet.data_pipelines.builtin.vocabulary import TRANSLATIONS

Agreement = dict[str, tuple[str, str]]  # gender: the article, and what adjectives end in


@dataclass(frozen=True)
class Grammar:
    order: str
    agreement: Agreement
    after_preposition: Agreement


GERMAN = {"m": ("ein", "er"), "n": ("ein", "es"), "f": ("eine", "e")}
GERMAN_DATIVE = {"m": ("einem", "en"), "n": ("einem", "en"), "f": ("einer", "en")}
SPANISH = {"m": ("un", ""), "f": ("una", "")}
FRENCH = {"m": ("un", ""), "f": ("une", "")}
GRAMMARS = {
    "de": Grammar("{article} {size} {texture} {colour} {shape}", GERMAN, GERMAN_DATIVE),
    "es": Grammar("{article} {shape} {size} {colour} {texture}", SPANISH, SPANISH),
    "fr": Grammar("{article} {size} {shape} {colour} {texture}", FRENCH, FRENCH),
}


def translated(scene: Scene, language: Language, wrong: float) -> str:
    """The scene in a language. Each word is wrong with probability `wrong`, whatever the other languages say."""
    dice = scene.stream(f"captions {language}")
    told = mistaken(scene, [fact for fact in facts(scene) if dice.random() < wrong], dice)
    if language == "en":
        return describe(told.objects, told.relation)
    words, grammar = TRANSLATIONS[language], GRAMMARS[language]
    parts = [_name(told.objects[0], language, grammar.agreement)]
    if told.relation:
        parts += [words[told.relation], _name(told.objects[1], language, grammar.after_preposition)]
    for thing in told.objects[2:]:
        parts += [words["and"], _name(thing, language, grammar.agreement)]
    return " ".join(parts).replace("' ", "'")


def _name(thing: Thing, language: Language, agreement: Agreement) -> str:
    words = {name: TRANSLATIONS[language][word] for name, word in thing.words.items()}
    noun, gender = words.pop("shape").split(", ")
    article, ending = agreement[gender]
    adjectives = {name: word.split("/")[-1 if gender == "f" else 0] + ending for name, word in words.items()}
    return GRAMMARS[language].order.format(article=article, shape=noun, **adjectives)
