"""A score table: values of each sample, in Parquet files that any engine reads and writes.

    SCORES/manifest.json   the sources: name, fingerprints, samples, and where the data are
    SCORES/GROUP/…         columns that were computed together, such as `signals` (score_group.py)

The files of all groups have the same ids, those of the sample within its source, so groups are joined over `id`. In an
expression, a column is GROUP.column. Sources and groups may be added at any time. Data that changed are refused.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tercet.data_pipelines.curate.engines import arrow
from tercet.data_pipelines.curate.score_group import GROUP_NAME, MANIFEST, Columns, Request, ScoreGroup
from tercet.data_pipelines.source import Source
from tercet.errors import UserError, did_you_mean
from tercet.whole_file import is_empty, write_json

FORMAT = 1
USUAL = "data"  # the name of a source that has none
SOURCE_NAME = re.compile(r"[\w-][\w.-]*")


@dataclass(frozen=True)
class TableSource:
    """A source of a table. `snapshot` changes also when a file is replaced under the same name."""

    name: str
    fingerprint: str
    snapshot: str
    samples: int
    address: tuple[str, ...]

    def __post_init__(self) -> None:
        if not SOURCE_NAME.fullmatch(self.name):
            name = f"`{self.name}` cannot name a source"
            raise UserError(f"{name} in a score table; use letters, digits and the signs _ . -")

    @classmethod
    def of(cls, source: Source, address: str | Sequence[str], name: str = USUAL) -> "TableSource":
        paths = (address,) if isinstance(address, str) else tuple(address)
        return cls(name, source.fingerprint, source.snapshot, len(source), paths)


class ScoreTable:
    """The table in a folder."""

    def __init__(self, folder: Path) -> None:
        arrow()  # says at once if it is missing
        self.folder = folder
        self.sources = {source.name: source for source in _read(folder)}

    @classmethod
    def begin(cls, folder: Path, source: TableSource) -> "ScoreTable":
        """Creates the table or opens it, with this source. Refuses data that changed since they were scored."""
        arrow()
        if not is_empty(folder) and not is_score_table(folder):  # another rank may just have begun
            raise UserError(f"{folder} is not a score table, and not an empty folder; name another one")
        known = {one.name: one for one in _read(folder)} if is_score_table(folder) else {}
        before = known.get(source.name, source)
        for what in ("fingerprint", "snapshot", "samples"):
            if getattr(before, what) != getattr(source, what):
                raise UserError(
                    f"{folder}: the samples of the source `{source.name}` changed since they were scored "
                    f"({', '.join(before.address)}); name another folder, or remove this one"
                )
        if source.name not in known:
            facts = {"format": FORMAT, "sources": [asdict(one) for one in (*known.values(), source)]}
            write_json(folder / MANIFEST, facts)
        return cls(folder)

    @property
    def groups(self) -> list[str]:
        """The groups that have rows."""
        names = sorted(path.name for path in self.folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        return [name for name in names if self._group(name).sources]

    def group(self, name: str) -> ScoreGroup:
        if name not in self.groups:
            raise UserError(f"{self.folder} has no group `{name}`; {did_you_mean(name, self.groups)}")
        return self._group(name)

    def begin_group(self, name: str, request: Request, columns: Columns) -> ScoreGroup:
        """The group of this request, which is created or continued. `request`: all that determines the values."""
        if not GROUP_NAME.fullmatch(name.removeprefix(".")):
            raise UserError(f"`{name}` cannot name a group of scores; use small letters, digits and _")
        return ScoreGroup.begin(self.folder / name, self._samples, request, columns)

    @property
    def _samples(self) -> dict[str, int]:
        return {name: source.samples for name, source in self.sources.items()}

    def _group(self, name: str) -> ScoreGroup:
        return ScoreGroup(self.folder / name, self._samples)


def is_score_table(folder: Path) -> bool:
    return (folder / MANIFEST).is_file()


def _read(folder: Path) -> list[TableSource]:
    try:
        facts = json.loads((folder / MANIFEST).read_bytes())
        form, sources = (
            facts["format"],
            [TableSource(**{**one, "address": tuple(one["address"])}) for one in facts["sources"]],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} is not a score table; `tercet curate score` writes one") from error
    if form != FORMAT:
        raise UserError(f"{folder} has the format {form}, and this tercet reads {FORMAT}; write the scores again")
    return sources
