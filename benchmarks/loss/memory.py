"""The peak memory of a call: on a CPU, the growth of resident memory; on a GPU, the peak of torch's allocator."""

import ctypes
from collections.abc import Callable
from pathlib import Path

import torch

M_MMAP_THRESHOLD = -3  # glibc's constant


def return_what_is_freed() -> None:
    """Makes free() return large blocks to the system at once, so that resident memory is the memory in use."""
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 2**20)


def extra_bytes(call: Callable[[], object], device: torch.device) -> int:
    """The peak memory of a call above the memory in use before it."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak to the resident memory
    before = resident("VmRSS")
    call()
    return resident("VmHWM") - before


def resident(field: str) -> int:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[field].split()[0]) * 1024
