"""How two sounds of a source become one sample whose caption says in which order they come. Imports no torch."""

from typing import Literal

from pydantic import Field, field_validator

from tercet.configs.base import Config, Misfit

Join = Literal["then", "while"]
Mistake = Literal["order", "join", "single"]
SLOTS = ("{a}", "{b}")
TEMPLATES: dict[Join, tuple[str, ...]] = {
    "then": ("{a}, then {b}", "{a}, followed by {b}", "{a} before {b}", "{b} after {a}"),
    "while": ("{a} while {b}", "{a} at the same time as {b}", "{a} and {b} together"),
}


class SoundPairsConfig(Config):
    """Makes samples of two sounds: one after the other, or both at once."""

    share: float = Field(
        1.0, gt=0, le=1, description="share of samples that are made of two sounds; the others stay as they are"
    )
    joins: dict[Join, float] = Field(
        {"then": 1.0},
        description="relative shares of the two ways to join sounds: then, one after the other; while, both at once",
    )
    templates: dict[Join, tuple[str, ...]] = Field(
        {},
        description="captions of a join, with the slots {a} and {b} for the captions of the first and second sound; "
        "default: four such as `{a}, then {b}` and `{b} after {a}`, three such as `{a} while {b}`",
    )
    wrong: tuple[Mistake, ...] = Field(
        ("order", "join"),
        description="wrong captions of each sample in `json.negatives`: order, the two sounds exchanged; join, another "
        "join; single, one of the sounds alone",
    )
    gap: tuple[float, float] = Field((0.0, 0.0), description="then: range of seconds of silence between the sounds")
    fade: float = Field(0.01, ge=0, description="then: seconds in which the first sound fades out and the second in")
    level: tuple[float, float] | None = Field(
        None,
        description="while: range of decibels of the second sound below the first, such as [-5, 5]; default: both as "
        "they were recorded",
    )

    @field_validator("joins")
    @classmethod
    def _some_share(cls, joins: dict[Join, float]) -> dict[Join, float]:
        if any(share < 0 for share in joins.values()) or not sum(joins.values()):
            raise ValueError("shares are 0 or more, and one is above 0, such as {then: 1, while: 0.5}")
        return joins

    @field_validator("templates", mode="before")
    @classmethod
    def _one_or_more(cls, raw: object) -> object:
        return (
            {join: (one,) if isinstance(one, str) else one for join, one in raw.items()}
            if isinstance(raw, dict)
            else raw
        )

    @field_validator("templates")
    @classmethod
    def _slotted(cls, templates: dict[Join, tuple[str, ...]]) -> dict[Join, tuple[str, ...]]:
        for join, listed in templates.items():
            if not listed:
                raise Misfit(join, f"has no template; write one as {TEMPLATES[join][0]}")
            for template in listed:
                if any(template.count(slot) != 1 for slot in SLOTS):
                    raise Misfit(
                        join, f"`{template}` needs each of the slots {{a}} and {{b}} once, as {TEMPLATES[join][0]}"
                    )
        return templates

    @field_validator("gap", "level")
    @classmethod
    def _range(cls, ends: tuple[float, float] | None) -> tuple[float, float] | None:
        if ends and ends[0] > ends[1]:
            raise ValueError(f"[{ends[0]:g}, {ends[1]:g}] is not a range; give the smaller number first")
        return ends

    @field_validator("gap")
    @classmethod
    def _not_negative(cls, gap: tuple[float, float]) -> tuple[float, float]:
        if gap[0] < 0:
            raise ValueError(f"[{gap[0]:g}, {gap[1]:g}] is not a range of seconds; give 0 or more")
        return gap

    def wordings(self, join: Join) -> tuple[str, ...]:
        """The templates of a join."""
        return self.templates.get(join) or TEMPLATES[join]
