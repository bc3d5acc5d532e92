"""What people may read about a kind of task: its module's docstring, and its keys as a task file sets them."""

from tercet.configs.about import About, Option, allowed, explained, summarised
from tercet.eval import load_tasks  # noqa: F401
from tercet.eval.task import KINDS

GIVEN = {"kind", "name"}  # the name of a task is that of its file


def kind_names() -> list[str]:
    return sorted(KINDS.names())


def about_kind(name: str) -> About:
    """Required keys come first, then its own keys."""
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
    required = [option for option in options if option.default is ...]
    own = [option for option in options if option.name in kind.__annotations__ and option not in required]
    shared = [option for option in options if option not in (*required, *own)]
    groups = [("Required keys", required), ("Keys", own), ("Keys that other kinds have, too", shared)]
    return About(name, *summarised(kind), explained(kind), [group for group in groups if group[1]])
