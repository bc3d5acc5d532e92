"""The vectors of a model as columns, by sample, which a run reads instead of running the model.

    FOLDER/vectors.json                             the model, the temperatures of its terms, and the sources
    FOLDER/FINGERPRINT/000000000000.safetensors     the samples 0 to 65,535: `id` [n], and `image`, `audio` and `text`
                                                    [n, d] in fp16, zeros where the sample has none

Samples are embedded as in evaluation: the centre of the picture, the whole sound. If samples have several captions, of
which a step draws one, `text` is [n, C, d], and `caption` [n, C] has a hash of the tokens of each. A source that draws
captions from several places has no `text`.

Shape letters: n samples of a part, C captions of a sample at most, d dimensions, r rows of the store.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from tercet.data_pipelines.columns import Column, read_manifest, write_part
from tercet.data_pipelines.sample import TextIntake
from tercet.distributed import World
from tercet.errors import UserError
from tercet.eval.embedding.embed import embed_prompts
from tercet.eval.embedding.store import Store
from tercet.models.multimodal import Multimodal
from tercet.whole_file import write_json

MANIFEST = "vectors.json"
CAPTION = "caption"  # the name of the hashes
PIECES = 16  # of the store in one file


@dataclass(frozen=True)
class TermTemperature:
    """The inverse temperature and the bias of a term between fields of these modalities."""

    modalities: tuple[str, ...]
    scale: float
    bias: float | None


@dataclass(frozen=True)
class SourceVectors:
    """The modalities of the samples of a source that have vectors, and where the source has its captions.

    `most`: how many captions a sample has at most.
    """

    samples: int
    modalities: tuple[str, ...]
    captions: tuple[str, ...] = ()
    most: int = 1


@dataclass(frozen=True)
class VectorManifest:
    """The content of `vectors.json`."""

    model: str
    weights: str
    dim: int
    temperatures: tuple[TermTemperature, ...]
    sources: Mapping[str, SourceVectors] = field(default_factory=dict)

    @staticmethod
    def read(folder: Path) -> "VectorManifest":
        raw = read_manifest(folder / MANIFEST, "tercet embed MODEL --data D --format column --out")
        terms = tuple(TermTemperature(**{**one, "modalities": tuple(one["modalities"])}) for one in raw["temperatures"])
        sources = {
            name: SourceVectors(one["samples"], tuple(one["modalities"]), tuple(one["captions"]), one["most"])
            for name, one in raw["sources"].items()
        }
        return VectorManifest(raw["model"], raw["weights"], raw["dim"], terms, sources)

    def write(self, folder: Path) -> None:
        write_json(folder / MANIFEST, asdict(self))


def write_vectors(
    store: Store,
    fingerprint: str,
    folder: Path,
    model: Multimodal,
    name: str,
    temperatures: Sequence[TermTemperature],
    world: World,
    captions: Mapping[str, float] | None = None,
) -> None:
    """Adds the vectors of a source to a folder. Each rank writes its own files. A collective.

    `captions`: the places of the captions, as the source's config names them.
    """
    dim = max(found["dim"] for found in store.facts["modalities"].values())
    begun = VectorManifest(name, store.facts["weights"], dim, tuple(temperatures))
    known = VectorManifest.read(folder) if (folder / MANIFEST).is_file() else begun
    if (known.weights, known.dim) != (begun.weights, begun.dim):
        raise UserError(
            f"{folder} has the vectors of {known.model} with other weights; name another folder, or remove it"
        )
    places = captions or {}
    modalities = tuple(one for one in store.modalities if one != "text" or len(places) <= 1)
    most = _most_captions(store, world) if "text" in modalities else 1
    source = _Source(store, modalities, most if most > 1 else 0, model)
    for first in range(0, store.pieces_count, PIECES)[world.rank :: world.size]:
        column = source.part(range(first, min(first + PIECES, store.pieces_count)))
        if len(column.id_n):
            write_part(folder, fingerprint, column)
    world.barrier()
    about = SourceVectors(store.facts["samples"], modalities, tuple(sorted(places)), max(most, 1))
    manifest = VectorManifest(name, known.weights, dim, begun.temperatures, {**known.sources, fingerprint: about})
    if world.first:
        manifest.write(folder)
    world.barrier()


def _most_captions(store: Store, world: World) -> int:
    mine = range(world.rank, store.pieces_count, world.size)
    return world.max(max((len(sample.text) for piece in mine for sample in store.samples(piece)), default=0))


@dataclass(frozen=True)
class _Source:
    """Reads the vectors of a source from a store. `captions`: the most captions of a sample, 0 if none has several."""

    store: Store
    modalities: tuple[str, ...]
    captions: int
    model: Multimodal

    def part(self, pieces: range) -> Column:
        read = [self._piece(piece) for piece in pieces]
        values = {name: np.concatenate([one.values[name] for one in read]) for name in read[0].values}
        return Column(np.concatenate([one.id_n for one in read]), values)

    def _piece(self, piece: int) -> Column:
        samples = self.store.samples(piece)
        values: dict[str, NDArray[Any]] = {}
        for name in self.modalities:
            if name == "text" and self.captions:
                texts = [sample.text for sample in samples]
                intake = self.model.tower("text").intake
                assert isinstance(intake, TextIntake)
                values |= caption_vectors(self.model, intake, texts, self.captions, np.float16)
                continue
            z_rd, item_r = self.store.rows(piece, name)
            values[name] = np.zeros((len(samples), z_rd.shape[1]), dtype=np.float16)
            values[name][item_r.numpy()] = z_rd.numpy()
        return Column(np.array([sample.id for sample in samples], dtype=np.int64), values)


def caption_vectors(
    model: Multimodal, intake: TextIntake, texts: Sequence[Sequence[str]], most: int, type: type[np.floating[Any]]
) -> dict[str, NDArray[Any]]:
    """The vectors of all captions of some samples, `most` at most of each, and the hashes of their tokens."""
    place_nC = np.arange(most) < np.array([len(captions) for captions in texts])[:, None]
    flat = [caption for captions in texts for caption in captions]
    text = np.zeros((*place_nC.shape, model.head.dims or model.head.dim), dtype=type)
    caption = np.zeros(place_nC.shape, dtype=np.int64)
    if flat:
        text[place_nC] = embed_prompts(model.embed_text, flat).numpy()
        caption[place_nC] = hashes(intake.tokenize(flat).numpy())
    return {"text": text, CAPTION: caption}


def hashes(token_nL: NDArray[np.int64]) -> NDArray[np.int64]:
    """A hash of each row of tokens. Never 0."""
    found = [xxh3_64_intdigest(row.tobytes()) | 1 for row in np.ascontiguousarray(token_nL, dtype=np.int64)]
    return np.array(found, dtype=np.uint64).view(np.int64)
