"""The open sources of a run, which its checks, loaders and evaluation share."""

from tercet.data_pipelines.config import DataConfig, SplitConfig
from tercet.data_pipelines.manifests.manifest import Manifest
from tercet.data_pipelines.source import Source
from tercet.data_pipelines.sources.files import SourceFiles, find_files
from tercet.data_pipelines.sources.open import Opened, open_split
from tercet.distributed import World


class OpenedSources:
    """Finds and opens each source once, when it is first needed. Later calls return the same object."""

    def __init__(self) -> None:
        self._files: dict[str, SourceFiles] = {}
        self._headers: dict[str, Manifest] = {}
        self._opened: dict[str, Source] = {}
        self._shards: Opened = {}

    def files(self, split: SplitConfig) -> SourceFiles:
        key = repr(split.source)
        if key not in self._files:
            self._files[key] = find_files(split.source)
        return self._files[key]

    def header(self, split: SplitConfig) -> Manifest:
        """The first table or folder of a manifest, with the roles of its columns."""
        key = repr((split.source, split.roles))
        if key not in self._headers:
            self._headers[key] = self.files(split).pieces[0].open(split.roles)
        return self._headers[key]

    def open(self, data: DataConfig, split: SplitConfig) -> Source:
        key = repr((split.source, split.reading, data.missing, data.max_bad, data.cache_gb))
        if key not in self._opened:
            self._opened[key] = open_split(data, split, self.files(split), self._shards)
        return self._opened[key]

    def open_first(self, data: DataConfig, split: SplitConfig, world: World) -> Source:
        """Opens a source on all ranks. A collective: all index shards, and the first indexes tables and folders."""
        if world.first or self.files(split).shards:
            self.open(data, split)
        world.wait_for_all()
        return self.open(data, split)
