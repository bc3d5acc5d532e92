"""The English words that the rules and the plain tagger know.

A family holds values of one attribute. The words of one tuple mean nearly the same, so that none replaces another.
"""

from collections.abc import Mapping
from itertools import chain

Family = tuple[tuple[str, ...], ...]


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


FAMILIES: Mapping[str, tuple[Family, ...]] = {
    "colour": (
        (
            ("red", "crimson", "scarlet"), ("orange",), ("yellow", "golden", "gold"), ("green",),
            ("blue", "navy", "cyan", "turquoise", "teal"), ("purple", "violet", "lavender", "magenta"),
            ("pink", "rosy"), ("brown", "tan", "beige", "chestnut"), ("black",), ("white", "ivory"),
            ("grey", "gray", "silver"),
        ),
    ),
    "size": (
        (("small", "little", "tiny", "miniature"), ("large", "big", "huge", "giant", "enormous", "massive")),
        (("long",), ("short",)),
        (("tall",), ("short",)),
        (("wide", "broad"), ("narrow",)),
        (("thick",), ("thin",)),
    ),
    "number": (
        (("two",), ("three",), ("four",), ("five",), ("six",), ("seven",), ("eight",), ("nine",), ("ten",)),
    ),
    "material": (
        (
            ("wooden",), ("metal", "metallic", "steel", "iron"), ("plastic",), ("glass",), ("stone", "marble"),
            ("brick",), ("concrete",), ("leather",), ("paper", "cardboard"), ("ceramic", "porcelain"),
        ),
    ),
    "pattern": ((("plain", "solid"), ("striped", "stripy", "banded"), ("dotted", "spotted", "speckled"),
                 ("checkered", "plaid"), ("floral", "flowery")),),
    "shape": ((("round", "circular"), ("square",), ("rectangular",), ("triangular",), ("oval",)),),
    "age": ((("young",), ("old", "elderly")), (("new", "modern"), ("old", "ancient", "antique"))),
    "state": (
        (("open",), ("closed", "shut")),
        (("wet",), ("dry",)),
        (("clean",), ("dirty", "muddy")),
        (("full",), ("empty",)),
        (("hot",), ("cold",)),
        (("sunny",), ("rainy",), ("snowy",), ("cloudy", "overcast")),
        (("standing",), ("sitting", "seated")),
        (("happy", "smiling"), ("sad", "crying")),
    ),
    "sound": (
        (("loud", "noisy"), ("quiet", "soft", "faint", "silent")),
        (("fast", "quick", "rapid"), ("slow",)),
        (("high-pitched", "shrill"), ("low-pitched", "deep")),
        (("distant", "faraway"), ("nearby", "close")),
    ),
}  # fmt: skip


def _by_word() -> dict[str, list[tuple[str, Family]]]:
    found: dict[str, list[tuple[str, Family]]] = {}
    for kind, families in FAMILIES.items():
        for family in families:
            for word in chain.from_iterable(family):
                found.setdefault(word, []).append((kind, family))
    return found


OF_WORD = _by_word()  # the kinds and families that a word belongs to
NUMBERS = _set("one two three four five six seven eight nine ten eleven twelve")

RELATIONS = (  # in the order in which they are looked for: longer ones first
    ("to the left of", "to the right of"),
    ("on the left side of", "on the right side of"),
    ("on the left of", "on the right of"),
    ("in front of", "behind"),
    ("on top of", "underneath"),
    ("away from", "towards"),
    ("away from", "toward"),
    ("out of", "into"),
    ("left of", "right of"),
    ("on the left", "on the right"),
    ("followed by", "preceded by"),
    ("higher than", "lower than"),
    ("larger than", "smaller than"),
    ("above", "below"),
    ("above", "beneath"),
    ("over", "under"),
    ("inside", "outside"),
    ("before", "after"),
    ("with", "without"),
)
IN_ORDER = ("followed by", "and then", "and after that", "then", "before", "after")  # join what follows on each other
SYMMETRIC = _set(  # words between two things that may change places
    "and or as well also with next to beside near nearby by together opposite while meanwhile along both "
    "is are was were sit sits sitting stand stands standing lie lies lying"
)
PLACES = _set("left right top front back bottom side middle center centre edge end outside inside")
COPULAS = _set("is are was were be been being seems looks")
DETERMINERS = _set(
    "a an the this that these those some any each every no another both all its his her their my your our "
    "several many few various other"
)
PRONOUNS = _set("i you he she it we they him them us me who which what something someone")
FUNCTION = DETERMINERS | PRONOUNS | COPULAS | _set(
    "of in on at to from by with without for into onto out over under above below behind beneath underneath beside "
    "besides between among through across along around near off up down inside outside before after during while "
    "until since as than like about against toward towards past via per within upon next and or but nor so yet if "
    "because then when where there here not very too also just only has have had do does did will would can could "
    "may might must shall should am followed preceded away together opposite"
)  # fmt: skip
PLURALS = _set("men women children people feet mice geese teeth sheep cattle")
ADJECTIVES = _set(
    "bright dark light pretty beautiful nice good bad great busy calm heavy fresh raw ripe rusty shiny smooth rough "
    "sharp flat fluffy furry hairy bald fat slim strong weak rich poor warm cool bare broken whole half high low "
    "deep shallow steep straight curved bent hollow main real fake rural urban public private male female human "
    "electric digital musical classical acoustic wild tame blonde colorful colourful delicious tasty sweet sour "
    "crowded parked lit grassy sandy rocky icy foggy windy blurry clear stormy wooded snow-covered different same "
    "first second last front single double continuous constant sudden gentle"
)
VERBS = _set(
    "sit stand lie walk run ride drive fly swim jump play hold carry eat drink cook cut look watch read write draw "
    "paint sing dance talk speak say laugh smile cry shout scream whisper sleep rest wait work push pull throw catch "
    "kick hit chase follow lead climb fall rise turn move stop start open close fill cover wear hang float surf ski "
    "skate sail row bark meow purr growl howl roar chirp tweet crow honk beep buzz ring hum rumble whistle clap tap "
    "knock bang crash hiss drip pour splash blow rain snow burn shine feed pet wash clean brush hug kiss touch point "
    "reach lift drop bring take give get put pass serve make build fix sell buy show use lean face cross lick bite "
    "graze fight race travel approach leave enter surround contain display feature perch land"
)
PAST = _set(
    "sat stood lay ran rode drove flew swam held ate drank cut read wrote drew sang spoke said slept threw caught hit "
    "led fell rose hung blew shone fed brought took gave got put made built sold bought left fought wore"
)
NOT_VERBS = _set(  # nouns in -ing
    "building painting clothing ceiling morning evening wedding string ring king thing something anything nothing wing "
    "spring railing lightning earring pudding drawing meeting landing dressing icing topping crossing parking"
)
