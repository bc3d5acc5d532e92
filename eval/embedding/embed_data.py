"""Embeds a dataset into a store. Each rank embeds its own pieces, and pieces that exist are not computed again."""

import sys
from pathlib import Path
from typing import Literal

import torch

from tercet.data_pipelines.bad_samples import summary
from tercet.data_pipelines.batches.eval_loader import EvalLoader
from tercet.data_pipelines.config import DataConfig, SplitConfig
from tercet.data_pipelines.decode.sound_pairs import decoder_of
from tercet.data_pipelines.shards.cache import cache_folder
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.distributed import World
from tercet.errors import UserError
from tercet.eval.embedding.embed import embed_batch, join
from tercet.eval.embedding.fingerprint import transform_digest, weights_digest
from tercet.eval.embedding.overlap import report_unread
from tercet.eval.embedding.store import Request, Store, StoredPart
from tercet.models.multimodal import Multimodal

Precision = Literal["fp32", "bf16"]
PIECE, BATCH = 4096, 256  # samples; a piece is a whole number of batches


def embed_data(
    model: Multimodal,
    data: DataConfig,
    split: SplitConfig,
    world: World,
    folder: Path | None = None,
    cache: Path | None = None,
    precision: Precision = "fp32",
    captions: int | None = 1,
) -> Store:
    """Finds, completes or creates the embeddings of a split in a folder, by default in the cache. A collective.

    `captions`: so many of a sample at most; None: all of them.
    `precision`: bf16 computes most of the towers in bf16, and keeps the vectors in fp32.
    """
    source = OpenedSources().open_first(data, split, world)
    report_unread(split, source, model.intakes)
    decoder = decoder_of(source, model.intakes, split, data.exact_images)
    transform = transform_digest(model.intakes, split, data.exact_images)
    weights = weights_digest(model) + (f" {precision}" if precision != "fp32" else "")
    texts = "" if captions == 1 else f" {captions or 'all'} captions"
    request = Request(weights, source.snapshot, transform + texts, len(source), PIECE, model.head.dims)
    store = Store.begin(folder or (cache or cache_folder()) / "embeddings" / request.digest, request)
    missing = world.broadcast(store.missing())
    for ids in missing[world.rank :: world.size]:
        loader = EvalLoader(
            decoder, model.intakes, BATCH, ids=ids, workers=data.workers, max_bad=data.max_bad, captions=captions
        )
        with torch.autocast(world.device.type, torch.bfloat16, enabled=precision == "bf16"):
            piece = embed_piece(model.eval(), loader, world.device)
        store.add(ids, piece)
    world.barrier()
    if world.first and not store.complete:
        store.finish()
        if store.faults:
            print(
                f"tercet: {len(store.faults)} samples could not be embedded ({summary(store.faults)})", file=sys.stderr
            )
    world.barrier()
    made = Store(store.folder)
    if not made.modalities:
        raise UserError(f"no sample of {split.source} has a modality that the model encodes; name other data")
    return made


@torch.no_grad()
def embed_piece(model: Multimodal, loader: EvalLoader, device: torch.device) -> StoredPart:
    parts = [embed_batch(model, batch.to(device)) for batch in loader]
    return StoredPart(join(parts), tuple(loader.faults))
