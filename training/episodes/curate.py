"""Keeps the samples of an episode whose captions are close to texts of a task.

CiT (Xu et al. 2023): the text tower in training chooses the pairs that it trains on, by texts of the task such as the
names of classes. It departs from the paper in two things: it compares vectors of the joint space, and not those before
the projection; and each source has its own least number of samples.

Shape letters: n samples of this rank, M texts, N samples of all ranks.
"""

from collections.abc import Mapping
from math import ceil
from pathlib import Path

import torch
from torch import Tensor

from tercet.data_pipelines.batches.batches import SourceIds
from tercet.distributed import World
from tercet.errors import RankError, UserError
from tercet.eval.embedding.embed import embed_prompts
from tercet.main_process import say
from tercet.models.multimodal import Multimodal
from tercet.training.episodes.config import CurateConfig
from tercet.training.memory.episode import Episode, SampleValues

BLOCK = 4096  # captions that are compared with all texts at once


def read_texts(path: str, key: str = "episodes.curate.metadata") -> list[str]:
    """The lines of the file that this key names, without those that are empty."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(f"{key}: {path} cannot be read ({reason}); name a text file") from None
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        raise UserError(f"{key}: {path} has no text; write one on each line, such as `a red fox`")
    return texts


def curated(
    episode: Episode, config: CurateConfig, model: Multimodal, sources: Mapping[str, SourceIds], least: int
) -> SampleValues:
    """This rank's samples that are kept, with the cosine of each. `least`: how many each source keeps, if it has them.
    A collective."""
    text_Md = embed_prompts(model.embed_text, read_texts(config.metadata))
    own = episode.vectors["text"]
    cosine_n = best_cosines(own.z_nd, text_Md)
    kept = []
    for name, source in sources.items():
        drawn = _count(_within(episode.id_n, source.ids), episode.world)
        if not drawn:
            raise RankError(f"episodes.curate: the episode drew no sample of `{name}`; raise episodes.samples")
        among_n = _within(own.id_n, source.ids)
        id_n, part_n = own.id_n[among_n], cosine_n[among_n]
        passed_n = chosen(id_n, part_n, config.threshold, max(ceil(config.min_ratio * drawn), least), episode.world)
        count = _count(passed_n, episode.world)
        if not count:
            raise RankError(f"episodes.curate: no drawn sample of `{name}` has a caption; leave this source out")
        say(f"step {episode.step:,}: trains on {count:,} of {drawn:,} samples of {name}, by {config.metadata}")
        kept.append((id_n[passed_n], part_n[passed_n]))
    ids, cosines = zip(*kept, strict=True)
    return SampleValues(torch.cat(ids), {"cosine": torch.cat(cosines)})


def best_cosines(z_nd: Tensor, text_Md: Tensor) -> Tensor:
    """The cosine of each caption with the text that is most like it."""
    blocks = [(block @ text_Md.T).amax(dim=1) for block in torch.split(z_nd, BLOCK) if len(block)]
    return torch.cat([torch.zeros(0), *blocks])


def chosen(id_n: Tensor, cosine_n: Tensor, threshold: float, least: int, world: World) -> Tensor:
    """Which of this rank's samples are kept: those above the threshold, or the best `least` of all ranks if these are
    more. Of equal cosines, the lower id wins. A collective."""
    above_n = cosine_n > threshold
    if _count(above_n, world) >= least:
        return above_n
    best = sorted(zip((-cosine_n).tolist(), id_n.tolist(), strict=True))[:least]
    first = sorted(pair for rank in world.gather_objects(best) for pair in rank)[:least]
    return torch.isin(id_n, torch.tensor([id for _, id in first], dtype=torch.int64))


def _within(id_n: Tensor, ids: range) -> Tensor:
    return (id_n >= ids.start) & (id_n < ids.stop)


def _count(marked_n: Tensor, world: World) -> int:
    return sum(world.gather_objects(int(marked_n.sum())))
