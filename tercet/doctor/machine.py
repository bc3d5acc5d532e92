"""Checks of the machine: memory, shared memory, disk, open files."""

import os
import shutil
from pathlib import Path

from tercet.doctor.finding import Finding
from tercet.system import resource

GROUP = "machine"
GIB = 2**30
ENOUGH_SHARED = 1 * GIB  # the processes of a machine exchange tensors through it
ENOUGH_DISK = 5 * GIB  # the built-in data set and a few checkpoints
ENOUGH_FILES = 1024


def machine() -> list[Finding]:
    return [*_memory(), *_shared_memory(Path("/dev/shm")), _disk(Path.cwd()), *_open_files()]


def _memory() -> list[Finding]:
    if not hasattr(os, "sysconf"):  # Windows does not say
        return []
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return [Finding(GROUP, "memory", "ok", f"{total / GIB:.0f} GiB, {os.cpu_count()} cores")]


def _shared_memory(mount: Path) -> list[Finding]:
    if not mount.is_dir():  # only Linux mounts it
        return []
    size = shutil.disk_usage(mount).total
    fix = (
        None
        if size >= ENOUGH_SHARED
        else "give the container more shared memory: docker run --shm-size=8g, or --ipc=host"
    )
    return [Finding(GROUP, "shared memory", "warn" if fix else "ok", f"{size / GIB:.1f} GiB at {mount}", fix)]


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    fix = None if free >= ENOUGH_DISK else "free some space here, or write runs elsewhere with out=FOLDER"
    return Finding(GROUP, "free disk", "warn" if fix else "ok", f"{free / GIB:.0f} GiB here", fix)


def _open_files() -> list[Finding]:
    if resource is None:  # Windows sets no such limit
        return []
    limit, ceiling = resource.getrlimit(resource.RLIMIT_NOFILE)
    fix = None if limit >= ENOUGH_FILES else f"ulimit -n {ceiling}"
    return [Finding(GROUP, "open files", "warn" if fix else "ok", f"{limit} at once", fix)]
