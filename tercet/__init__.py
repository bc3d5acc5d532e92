"""Contrastive pretraining of image, audio and text encoders into one space.

The public functions are listed here by name. Each is imported when it is first used.
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tercet.version import __version__

if TYPE_CHECKING:
    from tercet.api.clip_benchmark import clip_benchmark_model
    from tercet.api.embed import embed
    from tercet.api.evaluate import compare, evaluate
    from tercet.api.export import export
    from tercet.api.index import index
    from tercet.api.mine import mine
    from tercet.api.model import load
    from tercet.api.mteb_model import mteb_model
    from tercet.api.push import push
    from tercet.api.train import train
    from tercet.models.losses.standalone import loss

if find_spec("tercet.training") is None:  # an uninstalled checkout: the folders are siblings of this one
    __path__.append(str(Path(__file__).resolve().parent.parent))

__all__ = [
    "__version__",
    "clip_benchmark_model",
    "compare",
    "embed",
    "evaluate",
    "export",
    "index",
    "load",
    "loss",
    "mine",
    "mteb_model",
    "push",
    "train",
]

PLACES = {
    "clip_benchmark_model": "tercet.api.clip_benchmark",
    "compare": "tercet.api.evaluate",
    "embed": "tercet.api.embed",
    "evaluate": "tercet.api.evaluate",
    "export": "tercet.api.export",
    "index": "tercet.api.index",
    "load": "tercet.api.model",
    "loss": "tercet.models.losses.standalone",
    "mine": "tercet.api.mine",
    "mteb_model": "tercet.api.mteb_model",
    "push": "tercet.api.push",
    "train": "tercet.api.train",
}


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        raise AttributeError(f"module `tercet` has no attribute `{name}`")
    return getattr(import_module(PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *PLACES})
