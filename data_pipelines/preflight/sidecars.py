"""Warns of a sidecar that seems to be made for other data."""

from collections.abc import Mapping

from tercet.data_pipelines.captions.sidecar import open_sidecar
from tercet.data_pipelines.config import SourceConfig
from tercet.data_pipelines.source import Source
from tercet.main_process import say

LOOKED_AT = 256  # samples


def warn_if_strange(train: Mapping[str, SourceConfig], sources: Mapping[str, Source]) -> None:
    """Prints a line for each source of whose first samples none has a line in the sidecar."""
    for name, split in train.items():
        if not split.sidecar:
            continue
        sidecar, source = open_sidecar(split.sidecar), sources[name]
        keys = [source.key(id) for id in range(min(len(source), LOOKED_AT))]
        if not any(key in sidecar for key in keys):
            theirs = f", such as `{sidecar.some_key}`" if len(sidecar) else ""
            say(
                f"data.train.{name}: none of the first {len(keys):,} samples, such as `{keys[0]}`, has a line in "
                f"{split.sidecar}, whose {len(sidecar):,} keys are others{theirs}; it may be made for other data"
            )
