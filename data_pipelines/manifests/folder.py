"""A folder as a manifest: files that share a name are a sample, and their folder is its class."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePath

from tercet.data_pipelines.manifests.entry import Entry, LeftOut, Outcome, safe_key, usable
from tercet.data_pipelines.manifests.roles import Roles, check_roles
from tercet.data_pipelines.manifests.watched import Watched, watch
from tercet.errors import UserError
from tercet.modality import FILES

BESIDE = frozenset(("text", "json"))  # captions and metadata, which make no sample by themselves


class FolderManifest:
    """Pictures and sounds with the `.txt` and `.json` beside them, in folders of any depth; hidden files are ignored.

    `passed_over` counts the files that are not part of a sample, by extension.
    """

    def __init__(self, path: Path, asked: Roles, chosen: Callable[[Path], bool] = lambda path: True) -> None:
        """`chosen` says which pictures and sounds to take."""
        if asked.taken:
            raise UserError(f"{path} is a folder, so columns do not apply to it; only `group` can be set")
        check_roles(asked, ("class",), str(path))
        self.roles = asked
        self.columns: tuple[str, ...] = ()
        self.unused: list[str] = []
        self.passed_over: Counter[str] = Counter()
        self.watched: Watched = {}
        self._path, self._chosen = path, chosen

    def entries(self) -> Iterator[Outcome]:
        self.passed_over.clear()
        self.watched.clear()
        return usable(self._entry(row, files) for row, files in enumerate(self._all_samples(), start=1))

    def name(self, outcome: Outcome) -> str:
        return outcome.path if isinstance(outcome, LeftOut) else outcome.key

    def _all_samples(self) -> Iterator[dict[str, Path]]:
        for watched, paths in _folders(self._path, ()):
            self.watched |= watched
            for files in self._samples(paths):
                if any(self._chosen(path) for kind, path in files.items() if kind not in BESIDE):
                    yield files

    def _samples(self, paths: list[Path]) -> Iterator[dict[str, Path]]:
        """The files of each sample of a folder, by kind; a second file of a kind belongs to another sample."""
        named: defaultdict[str, list[dict[str, Path]]] = defaultdict(list)
        for path in paths:
            kind = kind_of(path.suffix[1:].lower())
            if kind is None:
                self.passed_over[path.suffix or path.name] += 1
                continue
            if all(kind in files for files in named[path.stem]):
                named[path.stem].append({})
            next(files for files in named[path.stem] if kind not in files)[kind] = path
        for _, alike in sorted(named.items()):
            for files in alike:
                if files.keys() - BESIDE:
                    yield files
                else:
                    self.passed_over.update(f"{path.suffix} without a picture or sound" for path in files.values())

    def _entry(self, row: int, files: Mapping[str, Path]) -> Entry:
        names = {kind: path.relative_to(self._path).as_posix() for kind, path in sorted(files.items())}
        folder, _, name = next(names[kind] for kind in names if kind not in BESIDE).rpartition("/")
        meta: dict[str, object] = {"class": folder} if folder else {}
        if self.roles.group:
            meta["group"] = folder
        return Entry(row, safe_key(f"{folder}/{PurePath(name).stem}"), self._path, names, (), meta)


def kind_of(extension: str) -> str | None:
    """The kind of a file by its extension: a modality, or json for metadata."""
    if extension == "json":
        return "json"
    return next((modality for modality, extensions in FILES.items() if extension in extensions), None)


def _folders(folder: Path, above: tuple[str, ...]) -> Iterator[tuple[Watched, list[Path]]]:
    """The files of each folder, sorted by name. Follows a link to a folder unless it leads back up."""
    watched = watch(folder)
    above = (*above, os.path.realpath(folder))
    seen = sorted((item for item in os.scandir(folder) if not item.name.startswith(".")), key=lambda item: item.name)
    yield watched, [folder / item.name for item in seen if item.is_file() or (item.is_symlink() and not item.is_dir())]
    for item in seen:
        if item.is_dir() and os.path.realpath(item.path) not in above:
            yield from _folders(folder / item.name, above)
