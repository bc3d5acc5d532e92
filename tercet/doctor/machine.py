"""Is the machine fit for a run: memory, shared memory, disk, open files."""

import os
import shutil
from pathlib import Path

from tercet.doctor.finding import Finding
from tercet.system import resource

ROOM = "machine"
GIB = 2**30
ENOUGH_SHARED = 1 * GIB  # processes of one machine exchange tensors through it
ENOUGH_DISK = 5 * GIB  # the built-in data set and a few checkpoints
ENOUGH_FILES = 1024


def machine() -> list[Finding]:
    return [*_memory(), *_shared_memory(Path("/dev/shm")), _disk(Path.cwd()), *_open_files()]


def _memory() -> list[Finding]:
    if not hasattr(os, "sysconf"):  # Windows does not say
        return []
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return [Finding(ROOM, "memory", "ok", f"{total / GIB:.0f} GiB, {os.cpu_count()} cores")]


def _shared_memory(mount: Path) -> list[Finding]:
    if not mount.is_dir():  # only Linux mounts it
        return []
    size = shutil.disk_usage(mount).total
    mend = None if size >= ENOUGH_SHARED else "give the container more: docker run --shm-size=8g, or --ipc=host"
    return [Finding(ROOM, "shared memory", "warn" if mend else "ok", f"{size / GIB:.1f} GiB at {mount}", mend)]


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    mend = None if free >= ENOUGH_DISK else "free some space here, or send runs elsewhere with out=FOLDER"
    return Finding(ROOM, "free disk", "warn" if mend else "ok", f"{free / GIB:.0f} GiB here", mend)


def _open_files() -> list[Finding]:
    if resource is None:  # Windows sets no such limit
        return []
    limit, ceiling = resource.getrlimit(resource.RLIMIT_NOFILE)
    mend = None if limit >= ENOUGH_FILES else f"ulimit -n {ceiling}"
    return [Finding(ROOM, "open files", "warn" if mend else "ok", f"{limit} at once", mend)]
