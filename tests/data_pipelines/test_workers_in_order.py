import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count, islice

import pytest

from tercet.data_pipelines.workers.in_order import in_order
from tercet.data_pipelines.workers.pool import worker_pool
from tercet.errors import RankError


def results(
    work: Callable[[int], int], items: range | count, workers: int, ahead: int, kind: str = "thread"
) -> Iterator[int]:
    with worker_pool(kind, workers, work) as (pool, call):  # type: ignore[arg-type]
        yield from in_order(call, items, pool, ahead)


def threads() -> int:
    return sum(thread.name.startswith("decode") for thread in threading.enumerate())


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_results_are_in_order_whichever_worker_finishes_first(workers: int) -> None:
    later = threading.Event()

    def work(item: int) -> int:
        if item == 0 and workers > 1:
            assert later.wait(300)  # the first ends only after a later one: it must not hold that one up
        if item == 3:
            later.set()
        return item * item

    assert list(results(work, range(50), workers, ahead=6)) == [item * item for item in range(50)]
    assert threads() == 0


def test_no_more_items_than_ahead_are_submitted() -> None:
    begun: list[int] = []
    made = results(lambda item: begun.append(item) or item, count(), workers=2, ahead=5)
    assert list(islice(made, 10)) == list(range(10))
    made.close()  # type: ignore[attr-defined]
    assert len(begun) <= 15
    assert threads() == 0


def test_closing_cancels_items_that_no_worker_has_begun() -> None:
    busy, release, begun = threading.Event(), threading.Event(), []

    def work(item: int) -> int:
        begun.append(item)
        if item == 1:
            busy.set()
        assert item == 0 or release.wait(300)
        return item

    made = results(work, count(), workers=1, ahead=8)
    assert next(made) == 0
    assert busy.wait(300)
    threading.Timer(0.2, release.set).start()
    made.close()  # type: ignore[attr-defined]
    assert begun == [0, 1]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_exception_in_a_thread_is_raised_here_and_ends_the_threads(workers: int) -> None:
    def work(item: int) -> int:
        if item == 7:
            raise ZeroDivisionError("seven")
        return item

    made = results(work, count(), workers, ahead=3)
    assert list(islice(made, 7)) == list(range(7))
    with pytest.raises(ZeroDivisionError, match="seven"):
        next(made)
    assert threads() == 0


def own_process(item: int) -> int:
    return os.getpid()


def killed_at_three(item: int) -> int:
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def refuse(item: int) -> int:
    raise ZeroDivisionError("here")


def test_work_runs_in_other_processes_which_end() -> None:
    workers = set(results(own_process, range(40), 2, ahead=4, kind="process"))
    assert os.getpid() not in workers
    while any(os.path.exists(f"/proc/{worker}") for worker in workers):
        time.sleep(0.01)


def test_an_exception_in_a_process_is_raised_here() -> None:
    with pytest.raises(ZeroDivisionError, match="here"):
        list(results(refuse, range(3), 1, ahead=2, kind="process"))


def test_a_dead_process_is_an_error_and_not_a_hang() -> None:
    with pytest.raises(RankError, match="a process that decodes data died"):
        list(results(killed_at_three, range(100), 2, ahead=4, kind="process"))
