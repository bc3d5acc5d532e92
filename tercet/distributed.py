"""All collectives of the project. Code that needs other ranks takes a `World`; one of size 1 needs no process group."""

import atexit
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")
TIMEOUT = timedelta(minutes=10)
PATIENCE = timedelta(days=1)  # while one rank works for all
CPU = torch.device("cpu")


@dataclass(frozen=True)
class World:
    """The ranks that share a run. Every method is a collective: all ranks call it, in the same order."""

    rank: int = 0
    size: int = 1
    device: torch.device = CPU

    @property
    def first(self) -> bool:
        return self.rank == 0

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all ranks, in order of rank. All have the same shape. Carries no gradient."""
        if self.size == 1:
            return rows.detach()
        out = rows.new_empty((self.size * rows.shape[0], *rows.shape[1:]))
        dist.all_gather_into_tensor(out, rows.detach().contiguous())
        return out

    def exchange(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        """Sends the first `counts[0]` rows to the first rank, the next `counts[1]` to the second, and so on. Returns
        the rows that this rank gets, in order of the ranks that sent them. Carries no gradient."""
        if self.size == 1:
            return rows.detach()
        sent_WW = self.gather(torch.tensor(counts, device=self.device)).view(self.size, self.size)
        received = sent_WW[:, self.rank].tolist()
        out = rows.new_empty((sum(received), *rows.shape[1:]))
        dist.all_to_all_single(out, rows.detach().contiguous(), received, list(counts))
        return out

    def sum(self, values: Tensor) -> Tensor:
        if self.size == 1:
            return values.detach()
        total = values.detach().clone()
        dist.all_reduce(total)
        return total

    def max(self, value: int) -> int:
        return max(self.gather_objects(value))

    def all(self, condition: bool) -> bool:
        """Whether the condition holds on every rank."""
        if self.size == 1:
            return condition
        flag = torch.tensor([0.0 if condition else 1.0], device=self.device)
        return float(self.sum(flag)) == 0.0

    def gather_objects(self, value: T) -> list[T]:
        if self.size == 1:
            return [value]
        values: list[T] = [value] * self.size
        dist.all_gather_object(values, value)
        return values

    def broadcast(self, value: T) -> T:
        """The first rank's value, on every rank."""
        if self.size == 1:
            return value
        box: list[T] = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def barrier(self) -> None:
        if self.size > 1:
            dist.barrier()

    def wait_for_all(self) -> None:
        """A barrier with a timeout of a day, for work such as indexing or downloads that outlasts other collectives."""
        if self.size > 1:
            patient = dist.new_group(backend="gloo", timeout=PATIENCE)
            dist.barrier(patient)  # type: ignore[arg-type]  # every rank is of it
            dist.destroy_process_group(patient)

    def share(self, values: Sequence[T]) -> Sequence[T]:
        """This rank's contiguous share of a list that every rank holds. Shares differ by one item at most."""
        start, stop = len(values) * self.rank // self.size, len(values) * (self.rank + 1) // self.size
        return values[start:stop]


def device_of(local_rank: int) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def join() -> World:
    """The world that torchrun or the deepspeed launcher set up for this process; without either, one of size 1."""
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    device = device_of(int(os.environ.get("LOCAL_RANK", 0)))
    if not dist.is_initialized():
        backend = "nccl" if device.type == "cuda" else "gloo"
        store = dist.HashStore() if size == 1 else None  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    return World(rank, size, device)


def leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def joined() -> Iterator[World]:
    """The world, which the process leaves only when it ends: DeepSpeed cannot move to another process group."""
    world = join()
    atexit.register(leave)
    yield world
