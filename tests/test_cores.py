"""Work on all cores: results in order, mistakes as they are, killed processes said, nobody left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal

import pytest

from lalm.cores import format_s, on_all_cores
from lalm.errors import DataError, MissingExtraError, UserError


def double(number: int) -> int:
    if number == -1:
        raise DataError("the row is wrong", ["it is minus one"])
    if number == -2:
        raise MissingExtraError("The program x", "the engine y", "apt install x")
    if number == -3:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def test_results_come_in_order_from_other_processes_and_the_way_is_told(capfd):
    assert on_all_cores(double, [3, 1, 2], "numbers") == [6, 2, 4]
    told = capfd.readouterr().err
    assert "[numbers] 1/3  about" in told
    assert told.endswith("[numbers] 3/3  about 0 s left   \n")
    assert on_all_cores(double, [], "numbers") == []


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (-1, "the row is wrong\n  - it is minus one"),
        (-2, "The program x is needed for the engine y and is not installed. Install it with: apt install x"),
        (-3, "[numbers] a process was killed; the system does so when memory runs out."),
    ],
)
def test_what_goes_wrong_is_said_in_the_first_process(item, said):
    with pytest.raises(UserError) as caught:
        on_all_cores(double, [item], "numbers")
    assert str(caught.value).startswith(said)


def in_a_worker(queue) -> None:
    queue.put((multiprocessing.current_process().daemon, on_all_cores(double, [1, 2], "numbers")))


def test_a_worker_that_may_have_no_processes_works_itself():
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    worker = context.Process(target=in_a_worker, args=(queue,), daemon=True)
    worker.start()
    assert queue.get(timeout=60) == (True, [2, 4])
    worker.join()


def test_seconds_for_a_person():
    assert [format_s(seconds) for seconds in (42.4, 200, 4800)] == ["42 s", "3 min", "80 min"]
    assert format_s(2 * 3600) == "2 h 0 min"
