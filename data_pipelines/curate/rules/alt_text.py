"""Rules for pictures with alt-texts of the web, after ALIGN and CC12M, and DiHT's CAT filter."""

from typing import ClassVar

from pydantic import Field

from tercet.data_pipelines.captions.rules.taggers import TaggerName
from tercet.data_pipelines.curate.entering import Entering
from tercet.data_pipelines.curate.rules.rule import Rule, curation_rule, decided
from tercet.data_pipelines.curate.rules.words import FACTS, with_facts

TEXT = Field("signals.text", description="the column of the caption")
SIDES = {"shorter": "least(signals.width, signals.height)", "longer": "greatest(signals.width, signals.height)"}


class AltText(Rule):
    reads: ClassVar[tuple[str, ...]] = ("signals",)
    text: str = TEXT
    least_words: int = Field(3, ge=0, description="fewest words of a caption")
    rare: int = Field(
        0, ge=0, description="drop a caption with a word that is in fewer captions of the stage (0: allow all words)"
    )

    def without_rare(self, entering: Entering, rows: str) -> str:
        """Adds the column `rare`: whether a word of the caption is in too few captions."""
        if not self.rare:
            return f"SELECT *, false AS rare FROM ({rows})"
        words = r"list_distinct(regexp_extract_all(lower(text), '[\p{L}\p{N}]+'))"
        each = f"SELECT source, id, unnest({words}) AS word FROM ({rows})"
        seldom = f"SELECT word FROM ({each}) GROUP BY word HAVING count(*) < {self.rare}"
        found = f"SELECT DISTINCT source, id, true AS rare FROM ({each}) SEMI JOIN ({seldom}) USING (word)"
        joined = f"({rows}) AS a LEFT JOIN ({found}) AS b USING (source, id)"
        return f"SELECT a.*, coalesce(b.rare, false) AS rare FROM {joined}"


@curation_rule("align")
class Align(AltText):
    """ALIGN's filters (Jia et al. 2021, section 3.1).

    The sizes of pictures were checked against a quotation of the paper; the other numbers are from memory. Differs:
    rare are words, by a number of captions, and not unigrams and bigrams beyond the 100 million most frequent.
    """

    shorter: int = Field(200, ge=0, description="the shorter side of a picture must have more pixels")
    aspect: float = Field(3.0, gt=1, description="the longer side divided by the shorter one must be below this")
    most_words: int = Field(20, gt=0, description="most words of a caption")
    shared: int = Field(10, gt=0, description="drop captions that more samples have")
    picture: str | None = Field(
        None, description="a column that is equal for equal pictures, such as duplicates.cluster"
    )
    texts: int = Field(1000, gt=0, description="drop pictures of `picture` with more samples")

    def decide(self, entering: Entering) -> str:
        columns = SIDES | {"text": self.text, "words": "signals.words"}
        columns |= {"picture": self.picture} if self.picture else {}
        rows = self.without_rare(entering, entering.select(columns))
        of_picture = (
            f"(picture IS NULL OR count(*) OVER (PARTITION BY picture) <= {self.texts})" if self.picture else "true"
        )
        keep = (
            f"coalesce(shorter > {self.shorter} AND longer < {self.aspect!r} * shorter "
            f"AND words BETWEEN {self.least_words} AND {self.most_words} AND NOT rare "
            f"AND count(*) OVER (PARTITION BY text) <= {self.shared} AND {of_picture}, false)"
        )
        return decided(rows, keep)


@curation_rule("cc12m")
class CC12M(AltText):
    """CC12M's filters (Changpinyo et al. 2021, section 2.1), with numbers that were checked against a quotation of it.

    Differs: a tagger of words finds nouns and determiners, so captions must be English. Rare words are allowed by
    default, because the paper's limit of 20 belongs to its much larger pool.
    """

    size: int = Field(400, ge=0, description="both sides of a picture must have more pixels")
    aspect: float = Field(2.5, gt=1, description="the longer side divided by the shorter one is at most this")
    jpeg: bool = Field(True, description="keep JPEG pictures only")
    most_words: int = Field(256, gt=0, description="most words of a caption")
    repeated: float = Field(0.2, ge=0, le=1, description="largest share of words that a caption repeats")
    tagger: TaggerName = Field("words", description="what finds nouns; textblob is better, and needs tercet[tagger]")

    def decide(self, entering: Entering) -> str:
        columns = SIDES | {
            "text": self.text,
            "words": "signals.words",
            "repeated": "signals.repeated_words",
            "format": "signals.image_format",
            "noun": f"{FACTS}.noun",
            "determiner": f"{FACTS}.determiner",
        }
        found = with_facts(entering, self.text, self.tagger)
        rows = self.without_rare(entering, entering.select(columns, further={FACTS: found}))
        keep = (
            f"coalesce(shorter > {self.size} AND longer <= {self.aspect!r} * shorter "
            f"AND {'format = ' + repr('JPEG') if self.jpeg else 'true'} "
            f"AND words BETWEEN {self.least_words} AND {self.most_words} "
            f"AND repeated <= {self.repeated!r} AND noun AND determiner AND NOT rare, false)"
        )
        return decided(rows, keep)


@curation_rule("cat")
class Cat(Rule):
    """DiHT's CAT filter (Radenovic et al. 2023), from memory: Complexity, Action and Text spotting.

    Keeps a caption in which some noun has enough relations, and which has a verb of an action; and drops a picture that
    shows its own caption, by a column with the text in the picture. Differs: a tagger of words takes the place of a
    semantic parser, so complexity counts the adjectives, the verb and the preposition of a noun.
    """

    text: str = TEXT
    complexity: int = Field(1, ge=0, description="least relations of one noun")
    action: bool = Field(True, description="keep only captions with a verb, other than forms of `to be`")
    shown: str | None = Field(None, description="a column with the text in the picture, as an OCR model reads it")
    overlap: float = Field(
        0.5, gt=0, le=1, description="share of the caption's words in `shown` from which it is dropped"
    )
    tagger: TaggerName = Field("words", description="what finds verbs; textblob is better, and needs tercet[tagger]")

    def decide(self, entering: Entering) -> str:
        columns = {"text": self.text, "relations": f"{FACTS}.complexity", "action": f"{FACTS}.action"}
        columns |= {"shown": self.shown} if self.shown else {}
        rows = entering.select(columns, further={FACTS: with_facts(entering, self.text, self.tagger)})
        acts = "action" if self.action else "true"
        keep = f"coalesce(text IS NOT NULL AND relations >= {self.complexity} AND {acts}, false)"
        if self.shown:
            words = "list_distinct(regexp_extract_all(lower({}), '[\\p{{L}}\\p{{N}}]+'))"
            said, seen = words.format("text"), words.format("coalesce(shown, '')")
            keep += f" AND len(list_intersect({said}, {seen})) < {self.overlap!r} * greatest(len({said}), 1)"
        return decided(rows, keep)
