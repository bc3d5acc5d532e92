"""What tasks share that compare items with classes: which items, which classes, and the prompts that name these."""

from collections.abc import Mapping
from itertools import product
from string import Formatter

from pydantic import Field, model_validator

from tercet.data_pipelines.captions.templates import agree
from tercet.eval.classification.published_words import Classes, Templates
from tercet.eval.task import WordedTask, digest


class PromptedTask(WordedTask):
    """Compares items with the prompts of classes."""

    what: str = Field(description="what the classes are, such as `shape`")
    label: str | None = Field(
        None,
        description="where the class of an item is in its `meta`, such as `objects[0].shape`; null: its `label` or "
        "`class`, or else the only class that its caption names",
    )
    count: dict[str, int] = Field(
        {}, description="only items whose list in `meta` has this many entries, such as `{objects: 1}`"
    )
    where: dict[str, str] = Field(
        {}, description="only items whose `meta` has this value, such as `{objects[0].size: large}`"
    )
    classes: Classes = Field(
        description="each label in `meta`, and its words in prompts; or a list of a package, such as "
        "`open_clip:IMAGENET_CLASSNAMES`"
    )
    templates: Templates = Field(
        min_length=1,
        description="prompts; `{class}` is replaced by the class; or a list of a package, such as "
        "`open_clip:OPENAI_IMAGENET_TEMPLATES`",
    )
    fill: dict[str, tuple[str, ...]] = Field(
        {}, description="words for other slots; each choice of words gives a prompt"
    )
    articles: bool = Field(
        True, description="write `an` for `a` before a vowel; false: prompts word for word, as published ones are"
    )

    @model_validator(mode="after")
    def _fillable(self) -> "PromptedTask":
        for template in self.templates:
            slots = {slot for _, slot, _, _ in Formatter().parse(template) if slot is not None}
            if "class" not in slots:
                raise ValueError(f"the template `{template}` has no place for the class; add {{class}}")
            unknown = slots - {"class", *self.fill}
            if unknown:
                raise ValueError(f"`fill` has no words for {{{', '.join(sorted(unknown))}}}")
        return self

    @property
    def hashes(self) -> dict[str, str]:
        return {**super().hashes, "classes": digest([*self.classes.items()]), "prompts": fingerprint(self)}

    def reordered(self) -> "PromptedTask":
        """Where the data may number the classes, their order stays."""
        return self if self.label is None else self.model_copy(update={"classes": dict(reversed(self.classes.items()))})


def prompts_of(task: PromptedTask, words: str) -> list[str]:
    """Every template filled with the class, once for each choice of words for its other slots."""
    prompts = [prompt for template in task.templates for prompt in _filled(template, {**task.fill, "class": (words,)})]
    return list(map(agree, prompts)) if task.articles else prompts


def _filled(template: str, words: Mapping[str, tuple[str, ...]]) -> list[str]:
    slots = [name for _, name, _, _ in Formatter().parse(template) if name]
    chosen = product(*(words[slot] for slot in slots))
    return [template.format(**dict(zip(slots, choice, strict=True))) for choice in chosen]


def fingerprint(task: PromptedTask) -> str:
    """Identifies the class names and templates of a result."""
    words = [list(task.classes.items()), task.templates, list(task.fill.items())]
    return digest(words if task.articles else [*words, "word for word"])
