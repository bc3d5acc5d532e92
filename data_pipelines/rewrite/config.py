"""The options of `tercet data rewrite`. Imports no torch."""

import json
from typing import Any, Literal

from pydantic import Field, field_validator

from tercet.configs.base import Config
from tercet.data_pipelines.captions.rules.taggers import TaggerName
from tercet.data_pipelines.captions.rules.wrong import USUAL


class RewriteConfig(Config):
    """Captions written by a language model, or made wrong by rules."""

    task: Literal["negatives", "rewrites", "keywords", "temporal"] = Field(
        "negatives", description="what to write of each caption, or of keywords"
    )
    limit: int | None = Field(None, gt=0, description="only the first samples, so many, to try a prompt; default: all")
    count: int | None = Field(
        None, gt=0, le=64, description="captions to ask for; default: 5 negatives, 4 rewrites, 2 of keywords"
    )
    prompt: str | None = Field(None, description="a file with your own prompt, with {caption} and optionally {count}")
    captions: str | None = Field(
        None,
        description="where the captions are: txt or json.KEY; default: as in training, and keywords.tags for keywords",
    )
    model: str = Field("", description="the name of the model at the endpoint")
    key_env: str = Field("OPENAI_API_KEY", description="the environment variable that holds the endpoint's key")
    temperature: float = Field(0.9, ge=0, description="of the model's draws; 0: its most probable answer")
    max_tokens: int = Field(512, gt=0, description="most tokens of an answer")
    extra: dict[str, Any] = Field(
        {},
        description='more of each request to an endpoint, as JSON: {"reasoning_effort": "low"}; null leaves out what '
        'the command sends, such as {"max_tokens": null}',
    )
    concurrency: int = Field(8, gt=0, description="requests at the same time, or captions that a local model takes")
    timeout: float = Field(60, gt=0, description="seconds without an answer after which a request is tried again")
    tries: int = Field(5, gt=0, description="how often to send a request to an endpoint that fails")
    seed: int = Field(0, ge=0, lt=2**63, description="of the draws of rules and of a local model")
    rules: tuple[str, ...] = Field(USUAL, description="which mistakes rules make")
    tagger: TaggerName = Field("words", description="what tells nouns from adjectives for rules")
    max_bad: float = Field(0.05, ge=0, le=1, description="share of captions without an answer that is an error")
    retry_bad: bool = Field(False, description="ask again for captions whose answers could not be used")

    @field_validator("extra", mode="before")
    @classmethod
    def _parsed(cls, raw: Any) -> Any:
        try:
            return json.loads(raw) if isinstance(raw, str) else raw
        except ValueError:
            raise ValueError(f'{raw} is not JSON; write an object, such as {{"max_tokens": null}}') from None
