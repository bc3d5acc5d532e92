"""Contrastive pretraining of image, audio and text encoders into one space."""

from importlib.util import find_spec
from pathlib import Path

from tercet.version import __version__

if find_spec("tercet.training") is None:  # an uninstalled checkout: the folders are siblings of this one
    __path__.append(str(Path(__file__).resolve().parent.parent))

__all__ = ["__version__"]
