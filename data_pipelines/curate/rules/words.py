"""Facts about the words of a caption, which rules use, by the tagger of `tercet.data_pipelines.captions.rules`."""

from collections.abc import Mapping
from functools import partial

from tercet.data_pipelines.captions.rules.sentence import Sentence
from tercet.data_pipelines.captions.rules.taggers import TaggerName, check_tagger, read
from tercet.data_pipelines.captions.rules.vocabulary import COPULAS, DETERMINERS
from tercet.data_pipelines.curate.engines import arrow
from tercet.data_pipelines.curate.entering import Entering, Table

FACTS = "caption"  # the name of the group of these values in expressions
Facts = Mapping[str, int | bool]


def with_facts(entering: Entering, text: str, tagger: TaggerName) -> str:
    """A query for the facts about each caption, which worker processes find."""
    check_tagger(entering.place, tagger)
    return entering.over_parts({"text": text}, partial(_facts_of_part, tagger), "captions", "reads captions")


def _facts_of_part(tagger: TaggerName, table: Table) -> Table:
    rows = [facts(read(caption or "", tagger)) for caption in table["text"].to_pylist()]
    pa = arrow()
    types = {"noun": pa.bool_(), "determiner": pa.bool_(), "action": pa.bool_(), "complexity": pa.int32()}
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in types.items()}
    return pa.table({"source": table["source"], "id": table["id"], **columns})


def facts(sentence: Sentence) -> Facts:
    verbs = [place for place in sentence.places("verb") if sentence.lower[place] not in COPULAS]
    return {
        "noun": bool(sentence.places("noun", "plural")),
        "determiner": any(word in DETERMINERS for word in sentence.lower),
        "action": bool(verbs),
        "complexity": _complexity(sentence, verbs),
    }


def _complexity(sentence: Sentence, verbs: list[int]) -> int:
    """The most relations of one noun: adjectives and numbers before it, and a verb or a preposition that follows it."""
    most = 0
    for number, place in enumerate(nouns := sentence.places("noun", "plural")):
        before = nouns[number - 1] if number else -1
        after = nouns[number + 1] if number + 1 < len(nouns) else len(sentence.words)
        described = sum(sentence.tags[one] in ("adjective", "number") for one in range(before + 1, place))
        acts = any(place < verb < after for verb in verbs)
        joined = after < len(sentence.words) and any(
            sentence.tags[one] == "function" for one in range(place + 1, after)
        )
        most = max(most, described + acts + joined)
    return most
