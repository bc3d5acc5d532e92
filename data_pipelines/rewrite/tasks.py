"""The tasks of a language model: the prompt for each caption, and how its answer becomes captions.

Negatives have five kinds, as those of DeGLA (Hu et al., 2025); rewrites are those of LaCLIP (Fan et al., 2023);
captions of keywords are those of LAION-CLAP (Wu et al., 2023); and the reversed order of sounds is that of T-CLAP (Yuan
et al., 2024). The prompts are our own.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from json import JSONDecoder
from pathlib import Path

from tercet.data_pipelines.captions.rules.sentence import normal
from tercet.data_pipelines.captions.rules.wrong import WrongCaption
from tercet.data_pipelines.captions.text import cleaned
from tercet.data_pipelines.rewrite.config import RewriteConfig
from tercet.errors import UserError

CAPTION, COUNT = "{caption}", "{count}"
ONLY_A_LIST = "\n\nAnswer with the JSON list and nothing else."
WORDED = ("text", "caption")
MOST_LISTS = 16  # places in an answer where a list may begin

NEGATIVES = """\
This is the caption of a picture or of a sound:

{caption}

Write {count} captions that look almost the same but are false where this one is true. Each makes one mistake, and all
are different. Go through these kinds in turn:

- "swap": exchange two words, so that each belongs to the other thing
- "order": use the same words in another sentence, so that what happens, or who does it to whom, is reversed
- "object": replace one thing by another thing
- "attribute": replace one property, such as a colour, a number, a size, a material or a loudness
- "relation": replace one action or relation by another one, such as its opposite

Leave out a kind that this caption does not allow. Write fluently, in the language and style of the caption, and about
as long. Never write a caption that could be true of the same picture or sound.

Answer with a JSON list such as [{"kind": "swap", "text": "…"}, {"kind": "object", "text": "…"}]."""

REWRITES = """\
This is the caption of a picture or of a sound:

{caption}

Write {count} other captions that say the same in other words and in another sentence. Keep every fact, and add none.
Write in the language of the caption.

Answer with a JSON list of strings."""

KEYWORDS = """\
These keywords belong to a sound:

{caption}

Write {count} captions of the sound, each one short sentence, as somebody who hears it would say it. Use all keywords
that can be heard, and add no other facts. Leave out names, places, dates, and words about the recording. Write "a
person" for a man or a woman. Write in the language of the keywords.

Answer with a JSON list of strings."""

TEMPORAL = """\
This is the caption of a sound:

{caption}

If it says that something is heard before, after or while something else is heard, write the caption with that order
changed: what came first comes last. Change nothing else. Otherwise, answer with an empty list: [].

Answer with a JSON list of at most {count} strings."""


@dataclass(frozen=True)
class Task:
    """`key`: the key that the answers have in the sidecar. `least`: words of a caption; shorter ones are left out.
    `optional`: an empty list is an answer. `place`: where its captions are, unless the command names another place."""

    name: str
    key: str
    prompt: str
    count: int
    least: int = 1
    optional: bool = False
    place: str | None = None

    def ask(self, caption: str) -> str:
        return self.prompt.replace(COUNT, str(self.count)).replace(CAPTION, caption)

    def read(self, answer: str, right: Collection[str]) -> list[WrongCaption] | None:
        """The captions of an answer, without those that are right; None if it is not a list of new captions."""
        listed = _list_in(answer)
        if listed is None:
            return None
        seen, kept = {normal(caption) for caption in right}, []
        for entry in listed:
            caption = self._caption(entry)
            if caption is None:
                return None
            words = normal(caption.text)
            if len(words) >= self.least and words not in seen:
                seen.add(words)
                kept.append(caption)
        return kept[: self.count] if kept or self.optional else None

    def row(self, captions: Collection[WrongCaption]) -> dict[str, object]:
        """What the sidecar holds of them."""
        if self.key != "negatives":
            return {self.key: [caption.text for caption in captions]}
        return {self.key: [{"kind": caption.kind, "text": caption.text} for caption in captions]}

    def _caption(self, entry: object) -> WrongCaption | None:
        kind = self.name
        if isinstance(entry, dict):
            kind = str(entry.get("kind", kind))
            entry = next((entry[key] for key in WORDED if key in entry), None)
        return WrongCaption(kind, cleaned(entry)) if isinstance(entry, str) else None


TASKS = {
    "negatives": Task("negatives", "negatives", NEGATIVES, 5),
    "rewrites": Task("rewrites", "rewrites", REWRITES, 4, least=2),
    "keywords": Task("keywords", "keyword_captions", KEYWORDS, 2, least=2, place="keywords.tags"),
    "temporal": Task("temporal", "negatives", TEMPORAL, 1, optional=True),
}


def task_of(config: RewriteConfig) -> Task:
    task = TASKS[config.task]
    return replace(task, prompt=_own(config.prompt) if config.prompt else task.prompt, count=config.count or task.count)


def _own(path: str) -> str:
    try:
        prompt = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--prompt {path} cannot be read: {error}; name a text file") from None
    if CAPTION not in prompt:
        raise UserError(f"--prompt {path} does not contain {CAPTION}; write it where the caption should be")
    return prompt


def _list_in(answer: str) -> list[object] | None:
    """The first JSON list of an answer, which may have words around it. A model's thoughts are skipped."""
    said = answer.rpartition("</think>")[2]
    start = said.find("[")
    for _ in range(MOST_LISTS):
        if start < 0:
            return None
        try:
            found, _end = JSONDecoder().raw_decode(said, start)
            return list(found)
        except (json.JSONDecodeError, RecursionError):
            start = said.find("[", start + 1)
    return None
