"""What people may read about a kind of task: its module's docstring, and its keys as a task file sets them."""

from tercet.configs.about import About, Option, allowed, explained, summarised
from tercet.eval import load_tasks  # noqa: F401
from tercet.eval.task import KINDS

GIVEN = {"kind", "name"}  # the name of a task is that of its file


def kind_names() -> list[str]:
    return sorted(KINDS.names())


def about_kind(name: str) -> About:
    """Its own keys come first. A key without a default must be set."""
    kind = KINDS.get(name)
    schema = kind.model_json_schema()["properties"]
    options = [
        Option(
            key,
            ... if info.is_required() else info.default,
            allowed(schema[key], "mapping"),
            info.description or "",
        )
        for key, info in kind.model_fields.items()
        if key not in GIVEN
    ]
    own = [option for option in options if option.name in kind.__annotations__]
    groups = [("Keys", own), ("Keys that other kinds have, too", [one for one in options if one not in own])]
    return About(name, *summarised(kind), explained(kind), [group for group in groups if group[1]])
