"""The towers, behind one small protocol: importing this room registers every family of them."""

from tercet.models.encoders import families as families
from tercet.models.encoders.encoder import FAMILIES, Encoder, build_encoder, family_of

__all__ = ["FAMILIES", "Encoder", "build_encoder", "family_of"]
