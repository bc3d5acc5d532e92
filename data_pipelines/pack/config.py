"""The options of packing that decide the result; the number of workers does not."""

from pydantic import Field

from tercet.configs.base import Config
from tercet.data_pipelines.decode.caps import LEAST_HERTZ, MOST_HERTZ


class PackConfig(Config):
    size: int | None = Field(None, gt=0, description="pixels of a picture's shorter side, where it has more")
    quality: int = Field(92, ge=1, le=100, description="of JPEG and WEBP pictures that are resized")
    rate: int | None = Field(None, ge=LEAST_HERTZ, le=MOST_HERTZ, description="sampling rate of sounds, in hertz")
    seconds: float | None = Field(None, gt=0, description="what is kept of longer sounds, from their start")
    shard_mb: int = Field(256, gt=0, description="megabytes of source files in a shard")
    shard_samples: int | None = Field(None, gt=0, description="samples in a shard, whatever their size")
    max_bad: float = Field(0.01, ge=0, le=1, description="share of rows left out above which packing has failed")
