"""Captions of keywords: one of all the keywords of a sample, by a template (Wu et al. 2023)."""

from collections.abc import Iterable

from tercet.data_pipelines.captions.templates import SLOT

KEYWORDS = "keywords"  # the root of places of keywords
KEYWORD_TEMPLATES = ("The sounds of {}.",)  # LAION-CLAP's


def of_keywords(keywords: Iterable[str], templates: Iterable[str]) -> tuple[str, ...]:
    """One caption for each template: *The sounds of rain, a dog and thunder.* None without keywords."""
    words = [word for word in (" ".join(keyword.replace("_", " ").split()) for keyword in keywords) if word]
    joined = f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)
    return tuple(template.replace(SLOT, joined) for template in templates if joined)
