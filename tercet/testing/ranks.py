"""Runs a function on several real gloo processes.

The processes come from a server that has loaded the heavy packages once, so that each launch takes seconds. They load
the same plugins as this process.
"""

import os
import pickle
import socket
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any

from tercet.plugins import Plugins
from tercet.processes import server

HEAVY = ["torch", "torch.distributed", "deepspeed", "open_clip", "timm"]
LATE = ["deepspeed.runtime.zero.muon.muon_optimizer", "torchaudio"]  # which runs load; the first loads a compiler
PRELOADED = [*HEAVY, *LATE, "tercet.training.runner"]


class RankFailed(AssertionError):
    """A rank failed. The message holds its traceback."""


def on_ranks(
    function: Callable[..., Any], size: int, *arguments: object, timeout: float = 300, nccl: bool = False
) -> list[Any]:
    """Runs `function(world, *arguments)` on `size` processes and returns the results by rank.

    The function must be importable by name, and the results picklable. The first failure ends all ranks, as does the
    timeout.
    """
    if not nccl:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    context = server(*PRELOADED)
    port = free_port()
    pipes, ranks = [], []
    for rank in range(size):
        here, there = context.Pipe(duplex=False)
        passed = (there, Plugins(), function, rank, size, port, nccl, arguments)
        process = context.Process(target=_one_rank, args=passed)
        process.start()
        there.close()
        pipes.append(here)
        ranks.append(process)
    try:
        return _collect(pipes, timeout)
    finally:
        for process in ranks:
            process.kill()
            process.join()


def _collect(pipes: list[Connection], timeout: float) -> list[Any]:
    results: dict[int, Any] = {}
    while len(results) < len(pipes):
        waiting = [pipe for rank, pipe in enumerate(pipes) if rank not in results]
        ready = wait(waiting, timeout)
        if not ready:
            raise RankFailed(f"ranks {[pipes.index(pipe) for pipe in waiting]} gave no result in {timeout} s")
        for rank in [rank for rank, pipe in enumerate(pipes) if pipe in ready]:
            try:
                failed, value = pickle.loads(pipes[rank].recv_bytes())
            except EOFError:
                raise RankFailed(f"rank {rank} died without an error message") from None
            if failed:
                raise RankFailed(f"rank {rank}:\n{value}")
            results[rank] = value
    return [results[rank] for rank in range(len(pipes))]


def _one_rank(
    pipe: Connection,
    plugins: Plugins,
    function: Callable[..., Any],
    rank: int,
    size: int,
    port: int,
    nccl: bool,
    arguments: tuple[object, ...],
) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    if not nccl:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import torch

    from tercet.distributed import join, leave

    torch.set_num_threads(1)
    try:
        world = join()
        # As bytes: a tensor itself would stay in the shared memory of this process, and vanish with it.
        pipe.send_bytes(pickle.dumps((False, function(world, *arguments))))
        leave()
    except BaseException:  # of any kind, because the other ranks wait for this one
        pipe.send_bytes(pickle.dumps((True, traceback.format_exc())))
        sys.exit(1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
