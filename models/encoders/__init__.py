"""The towers, behind one small interface. Importing this package registers all built-in families."""

from tercet.models.encoders.encoder import FAMILIES, Encoder, build_encoder, family_of
from tercet.models.encoders.families import check_encoder

__all__ = ["FAMILIES", "Encoder", "build_encoder", "check_encoder", "family_of"]
