"""Examines every byte of a sample: decodes pictures and sounds to their ends, parses JSON and captions."""

from collections.abc import Sequence
from dataclasses import dataclass

from tercet.data_pipelines.bad_samples import BadSample, Fault
from tercet.data_pipelines.captions.reader import CaptionReader
from tercet.data_pipelines.captions.text import MOST_BYTES, decode_meta, negatives_of
from tercet.data_pipelines.decode.fault import fault_of
from tercet.data_pipelines.decode.media import verify_picture, verify_sound
from tercet.data_pipelines.shards.index import kind_of
from tercet.data_pipelines.source import Files, Source
from tercet.data_pipelines.survey.findings import CUT
from tercet.modality import DECODERS, EXTENSIONS, FILES

CAPTIONS = CaptionReader({})


@dataclass(frozen=True)
class SampleChecker:
    """Finds the first fault of each sample, or else a note. `usual`: the kinds of files that most samples have."""

    source: Source
    usual: Sequence[str]

    def __call__(self, ids: Sequence[int]) -> list[Fault]:
        reasons = zip(ids, map(self._reason, self.source.read(ids, EXTENSIONS)), strict=True)
        return [fault_of(self.source, id, reason) for id, reason in reasons if reason]

    def _reason(self, files: Files | BadSample) -> str:
        if isinstance(files, BadSample):
            return files.reason
        try:
            return examine(files, self.usual)
        except BadSample as bad:
            return bad.reason


def examine(files: Files, usual: Sequence[str]) -> str:
    """Raises the first fault; without any, returns a note or nothing."""
    held = set(map(kind_of, files))
    for kind in usual:
        if kind not in held:
            raise BadSample(f"orphan: no {kind}, which most samples have")
    for extension, data in files.items():
        if extension in DECODERS:
            continue  # the file of a plugin
        if extension in FILES["image"]:
            verify_picture(data)
        elif extension in FILES["audio"]:
            verify_sound(data)
    meta = decode_meta(files["json"]) if "json" in files else {}
    negatives_of(meta)
    captions = CAPTIONS(files, meta)
    _ = captions and captions.all  # cleaned, which may leave nothing
    return CUT if captions.too_long or len(files.get("txt", b"")) > MOST_BYTES else ""
