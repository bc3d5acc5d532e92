"""The recipe key `fields.NAME.among`: soft retrieval. Imports no torch."""

from pydantic import Field

from tercet.configs.base import Config


class RetrievalConfig(Config):
    """A memory of stored vectors, and how sharply it is searched."""

    features: str = Field(
        description="the memory: a folder of features by the tower of this modality, which `tercet embed --format "
        "features` wrote; all of its sources count"
    )
    temperature: float = Field(
        0.01, gt=0, description="weights are the softmax of the cosines divided by this; the lower, the fewer count"
    )
    nearest: int | None = Field(
        None, gt=0, description="only so many vectors count, the most similar ones; default: all"
    )
