"""HTML pages in one file each, which need no network and no library.

Captions, keys and names come from data and may be hostile: everything is escaped.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from tercet.whole_file import write_whole


def environment(package: str, filters: Mapping[str, Any]) -> Environment:
    """The templates of a package. They may extend `page.html`, and import the pieces in `pieces.html`."""
    found = Environment(
        loader=ChoiceLoader([PackageLoader(package, "."), PackageLoader("tercet.page", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update({"number": number, **filters})
    return found


def number(value: int) -> str:
    return f"{value:,}"


def write_page(path: Path, page: str) -> Path:
    """Writes the page under its name only once it is complete."""
    write_whole(path, page)
    return path
