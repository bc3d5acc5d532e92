"""The facts about a machine that decide how to train on it: GPUs and their memory, cores, memory and disk."""

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tercet.system import cores

GIB = 2**30


@dataclass(frozen=True)
class Gpu:
    name: str
    memory: int  # bytes


@dataclass(frozen=True)
class Machine:
    """Sizes are in bytes. `cores` counts those that this process may use."""

    gpus: tuple[Gpu, ...]
    cores: int
    memory: int
    free_disk: int

    def __str__(self) -> str:
        rest = f"{self.cores} core{'s' * (self.cores > 1)}, {self.memory / GIB:.0f} GiB of memory"
        if not self.gpus:
            return f"no GPU, {rest}"
        first = self.gpus[0]
        return f"{len(self.gpus)} × {first.name} of {first.memory / GIB:.0f} GiB, {rest}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def this_machine() -> Machine:
    import torch

    found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return Machine(
        gpus=tuple(Gpu(gpu.name, gpu.total_memory) for gpu in found),
        cores=cores(),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        free_disk=shutil.disk_usage(Path.cwd()).free,
    )
