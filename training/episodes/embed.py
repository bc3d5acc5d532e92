"""Draws the samples of an episode and embeds this rank's share of them, as evaluation does.

Shape letters: n samples that are drawn.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from tercet.data_pipelines.batches.eval_loader import EvalLoader
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.decode.item import Decoder
from tercet.data_pipelines.plans.order import Ints
from tercet.data_pipelines.plans.sample_list import list_of
from tercet.data_pipelines.plans.shuffle import shuffled
from tercet.data_pipelines.seeding import keys
from tercet.data_pipelines.source import Source
from tercet.distributed import World
from tercet.errors import RankError, UserError
from tercet.eval.embedding.embed import EmbeddedBatch, embed_batch
from tercet.main_process import say
from tercet.models.multimodal import Multimodal
from tercet.plural import number_of
from tercet.training.config import RunConfig
from tercet.training.episodes.config import EpisodesConfig
from tercet.training.memory.episode import Embedded, Episode


def drawn(trained: Sequence[Ints], samples: int | None, seed: int, step: int) -> list[Ints]:
    """The ids of the samples of an episode within each source, ascending. `trained`: those that each source has.

    None is drawn twice. Sources are drawn from by their size, not by their weight.
    """
    total = sum(map(len, trained))
    if samples is None or samples >= total:
        return list(trained)
    place_n = np.arange(samples)
    place_n = np.sort(shuffled(place_n, total, keys("episode", seed, step, np.zeros_like(place_n))))
    end = np.cumsum([len(ids) for ids in trained])
    parts = np.split(place_n, np.searchsorted(place_n, end[:-1]))
    return [ids[part - (last - len(ids))] for ids, part, last in zip(trained, parts, end.tolist(), strict=True)]


def trained_ids(data: DataConfig, sources: Mapping[str, Source]) -> list[Ints]:
    """The samples that a run trains on, by their ids within each source: all, or those of its list."""
    ids = []
    for name, source in sources.items():
        listed = list_of(data.train[name], source)
        ids.append(np.arange(len(source)) if listed is None else np.flatnonzero(listed.times_N))
    return ids


class SampleEmbedder:
    """Embeds training samples with the weights of `model`, without augmentation."""

    def __init__(self, config: RunConfig, episodes: EpisodesConfig, model: Multimodal, world: World) -> None:
        self.config, self.model, self.world = config, model.eval(), world
        self.bad = 0  # samples of this rank that could not be decoded
        wanted = episodes.embedded(config.terms)
        self.intakes = {name: intake for name, intake in model.intakes.items() if name in wanted}

    def __call__(self, sources: Mapping[str, Source], ids: Sequence[Ints], step: int) -> Episode:
        """This rank's share of the samples, and their vectors by modality."""
        self.bad = 0
        parts: list[tuple[int, EmbeddedBatch]] = []
        shares = [np.zeros(0, dtype=np.int64)]
        first = 0
        for (name, source), id_n in zip(sources.items(), ids, strict=True):
            share = self.world.share(range(len(id_n)))
            own_n = id_n[share[0] : share[-1] + 1] if share else id_n[:0]
            shares.append(first + own_n)
            parts += [(first, part) for part in self._batches(name, source, own_n.tolist())]
            first += len(source)
        vectors = {name: self._joined(name, parts) for name in self.intakes}
        bad = int(self.world.sum(torch.tensor(self.bad, device=self.world.device)))
        if bad:
            say(f"episode at step {step:,}: {number_of(bad, 'sample')} could not be decoded, and left out")
        return Episode(step, self.config.seed, torch.from_numpy(np.concatenate(shares)), vectors, self.world)

    def _batches(self, name: str, source: Source, ids: Sequence[int]) -> Iterator[EmbeddedBatch]:
        data = self.config.data
        decoder = Decoder(source, self.intakes, data.train[name], data.exact_images)
        loader = EvalLoader(
            decoder, self.intakes, self.config.eval.batch_size, ids=ids,
            workers=data.workers, max_bad=data.max_bad,
        )  # fmt: skip
        bf16 = self.config.precision == "bf16"
        try:
            for batch in loader:
                with torch.no_grad(), torch.autocast(self.world.device.type, torch.bfloat16, enabled=bf16):
                    embedded = embed_batch(self.model, batch.to(self.world.device))
                yield replace(embedded, samples=())  # their captions and metadata would fill the memory
            self.bad += len(loader.faults)
        except UserError as error:
            raise RankError(f"rank {self.world.rank}: {error}") from None

    def _joined(self, name: str, parts: Sequence[tuple[int, EmbeddedBatch]]) -> Embedded:
        present = [(first, part) for first, part in parts if name in part.vectors]
        width = self.model.head.dim
        id_n = torch.cat([torch.zeros(0, dtype=torch.int64), *(first + part.ids[name] for first, part in present)])
        z_nd = torch.cat([torch.zeros(0, width), *(part.vectors[name] for _, part in present)])
        broken = int((~torch.isfinite(z_nd)).any(dim=1).sum())
        if broken:
            raise RankError(
                f"rank {self.world.rank}: {broken} of {len(z_nd)} {name} vectors of the episode are not finite; lower "
                "optimizer.lr, or check the data"
            )
        return Embedded(id_n, z_nd)
