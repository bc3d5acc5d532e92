"""English words that a change of captions knows: stop words, and words that mean nearly the same in a caption."""

from collections.abc import Mapping

WORDS = """
    a an the this that these those some any each every such
    i me my mine we us our ours you your yours he him his she her hers it its they them their theirs
    who whom whose which what where when why how
    am is are was were be been being do does did doing have has had having
    can could may might must shall should will would
    and or but nor so yet if then than because as until while though although
    of at by for with about against between into through during before after above below to from up down in out on off
    over under onto upon near here there again further once
    all both few more most other only own same too very just also not no
"""
STOP_WORDS = frozenset(WORDS.split())

GROUPS = (
    ("picture", "photo", "photograph", "image"), ("drawing", "sketch", "illustration"), ("view", "scene"),
    ("man", "guy", "gentleman"), ("woman", "lady"), ("child", "kid"), ("children", "kids"), ("boy", "lad"),
    ("people", "persons", "folks"), ("baby", "infant"), ("crowd", "group"), ("friend", "companion"),
    ("dog", "hound"), ("puppy", "pup"), ("cat", "feline"), ("horse", "steed"), ("bird", "fowl"), ("rabbit", "bunny"),
    ("car", "automobile", "auto"), ("truck", "lorry"), ("bike", "bicycle"), ("plane", "airplane", "aircraft"),
    ("boat", "vessel"), ("ship", "vessel"), ("street", "road"), ("path", "trail", "track"), ("shop", "store"),
    ("house", "home"), ("building", "structure"), ("sofa", "couch"), ("rug", "carpet"), ("cup", "mug"),
    ("sea", "ocean"), ("forest", "woods"), ("stone", "rock"), ("stones", "rocks"), ("hill", "mound"),
    ("field", "meadow"),
    ("trash", "rubbish", "garbage"), ("phone", "telephone"), ("tv", "television"), ("coat", "jacket"),
    ("hat", "cap"), ("trousers", "pants"), ("shoe", "boot"), ("bag", "sack"), ("gift", "present"), ("meal", "dish"),
    ("big", "large", "huge", "giant"), ("small", "little", "tiny"), ("beautiful", "pretty", "lovely"), ("old", "aged"),
    ("young", "youthful"), ("fast", "quick", "rapid"), ("slow", "unhurried"), ("happy", "glad", "cheerful"),
    ("sad", "unhappy"), ("bright", "brilliant", "vivid"), ("dark", "dim"), ("grey", "gray"), ("loud", "noisy"),
    ("quiet", "silent"), ("wet", "damp"), ("empty", "vacant"), ("broken", "damaged"), ("strange", "odd"),
    ("walking", "strolling"), ("running", "racing"), ("jumping", "leaping"), ("sitting", "seated"),
    ("looking", "gazing"), ("smiling", "grinning"), ("laughing", "chuckling"), ("talking", "speaking", "chatting"),
    ("shouting", "yelling"), ("eating", "dining"), ("holding", "carrying"), ("throwing", "tossing"),
    ("closed", "shut"), ("many", "several", "numerous"), ("begin", "start"),
    ("sound", "noise"), ("song", "tune", "melody"), ("bang", "thud"), ("rain", "rainfall"), ("wind", "breeze"),
)  # fmt: skip


def _others() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for group in GROUPS:
        for word in group:
            found[word] = (*found.get(word, ()), *(other for other in group if other != word))
    return found


SYNONYMS: Mapping[str, tuple[str, ...]] = _others()  # by word, those that may take its place
