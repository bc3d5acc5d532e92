import threading
from itertools import count, islice

import pytest

from tercet.data_pipelines.ahead import in_order


def threads() -> int:
    return sum(thread.name.startswith("ahead") for thread in threading.enumerate())


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_results_come_in_order_whoever_finishes_first(workers: int) -> None:
    later = threading.Event()

    def work(item: int) -> int:
        if item == 0 and workers > 1:
            assert later.wait(10)  # the first ends only after a later one: it must not hold that one up
        if item == 3:
            later.set()
        return item * item

    assert list(in_order(work, range(50), workers, ahead=6)) == [item * item for item in range(50)]
    assert threads() == 0


def test_no_more_is_begun_than_asked_for() -> None:
    begun: list[int] = []
    results = in_order(lambda item: begun.append(item) or item, count(), workers=2, ahead=5)
    assert list(islice(results, 10)) == list(range(10))
    results.close()  # type: ignore[attr-defined]
    assert len(begun) <= 15
    assert threads() == 0


def test_closing_drops_what_has_not_begun() -> None:
    release, begun = threading.Event(), []

    def work(item: int) -> int:
        begun.append(item)
        assert item == 0 or release.wait(10)
        return item

    results = in_order(work, count(), workers=1, ahead=8)
    assert next(results) == 0
    threading.Timer(0.2, release.set).start()
    results.close()  # type: ignore[attr-defined]
    assert begun == [0, 1]


@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_thread_raises_is_raised_here_and_ends_the_threads(workers: int) -> None:
    def work(item: int) -> int:
        if item == 7:
            raise ZeroDivisionError("seven")
        return item

    results = in_order(work, count(), workers, ahead=3)
    assert list(islice(results, 7)) == list(range(7))
    with pytest.raises(ZeroDivisionError, match="seven"):
        next(results)
    assert threads() == 0
