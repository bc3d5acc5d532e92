"""Strict typed configs. Unknown keys are errors that suggest the closest known key."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from tercet.errors import UserError, did_you_mean

C = TypeVar("C", bound="Config")
Place = Callable[[str], str]

# The messages of pydantic name Python's types, but a recipe is YAML.
PLAINER = {
    "model_type": "should be a mapping of keys",
    "dict_type": "should be a mapping of keys",
    "tuple_type": "should be a list",
    "float_type": "should be a number",
    "float_parsing": "should be a number",
    "int_type": "should be a whole number",
    "int_parsing": "should be a whole number",
    "int_from_float": "should be a whole number",
    "bool_parsing": "should be true or false",
    "string_type": "should be text",
    "too_short": "should not be empty",
}


class Config(BaseModel):
    """The base of every config. A field's `description` is its documentation."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
    short: ClassVar[Collection[str]] = ()  # keys that are shorthand for some of the fields

    @model_serializer(mode="wrap")
    def _without_idle_fields(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Omits fields that are empty now and by default."""
        fields = type(self).model_fields
        written: dict[str, Any] = handler(self)
        idle = {name for name, info in fields.items() if info.default in (None, (), {})}
        return {name: value for name, value in written.items() if name not in idle or value not in (None, (), [], {})}


class Component(Config):
    """The name of a registered component, and its fields. A bare name in YAML sets no fields."""

    model_config = ConfigDict(extra="allow")
    name: str

    @model_validator(mode="before")
    @classmethod
    def _from_bare_name(cls, raw: Any) -> Any:
        return {"name": raw} if isinstance(raw, str) else raw


class Misfit(ValueError):
    """Raised by validators of a config: the dotted key at fault, and the rest of a sentence that starts with it."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"`{key}` {reason}")
        self.key, self.reason = key, reason


def build(kind: type[C], values: Mapping[str, Any], place: Place) -> C:
    """Validates `values` as a `kind`. Errors are one line with the key, its value and the fix.

    `place` returns where a key is set, for the error.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        # A misspelt required key is both missing and unknown. The unknown one comes first: its error suggests the fix.
        problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
        explained = [_explain(kind, dict(problem)) for problem in problems]
        key, sentence = explained[0]
        others = {key for key, _ in explained} - {key}
        more = f" (and {len(others)} more)" if others else ""
        raise UserError(f"{place(key)}: {sentence}{more}") from None


def _explain(kind: type[Config], problem: dict[str, Any]) -> tuple[str, str]:
    """The key at fault and one sentence about it."""
    path, fields = _follow(kind, problem["loc"])
    key = ".".join(path)
    if problem["type"] == "extra_forbidden":
        return key, f"unknown key `{key}`; {did_you_mean(path[-1], fields)}"
    if problem["type"] == "missing":
        return key, f"`{key}` is missing" + (f": {fields[path[-1]]}" if fields.get(path[-1]) else "")
    if problem["type"] == "value_error":
        error = problem["ctx"]["error"]
        if isinstance(error, Misfit):
            key = ".".join((*path, error.key))
            return key, f"`{key}` {error.reason}"
        return key, f"`{key}`: {error}" if key else str(error)
    reason = PLAINER.get(problem["type"], problem["msg"].removeprefix("Input "))
    return key, f"`{key}` is `{_shortened(problem['input'])}`, but {reason}"


def _follow(kind: type[Config], location: tuple[str | int, ...]) -> tuple[list[str], dict[str, str]]:
    """The dotted path of a location, without pydantic's union tags, and the known fields at its end."""
    path: list[str] = []
    annotation: Any = kind
    fields: dict[str, str] = {}
    for part in location:
        model = None if _is_mapping(annotation) else _config_within(annotation)
        if model and isinstance(part, str):
            known = {info.alias or name: info for name, info in model.model_fields.items()}
            fields = dict.fromkeys(model.short, "")
            fields |= {name: info.description or "" for name, info in known.items()}
            annotation = known[part].annotation if part in known else _unnamed(model)
        elif _is_mapping(annotation):
            annotation = (*get_args(annotation), None, None)[1]
        elif isinstance(part, str):
            break
        path.append(str(part))
    return path, fields


def _config_within(annotation: Any) -> type[Config] | None:
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return annotation
    return next(filter(None, map(_config_within, get_args(annotation))), None)


def _unnamed(model: type[Config]) -> Any:
    """The type of extra fields, if the config allows them."""
    return (*get_args(model.__annotations__.get("__pydantic_extra__")), None, None)[1]


def _is_mapping(annotation: Any) -> bool:
    return getattr(annotation, "__origin__", annotation) is dict


def _shortened(value: Any) -> str:
    text = "null" if value is None else " ".join(str(value).split())
    return text if len(text) <= 60 else text[:57] + "…"
