"""The lane in front of a model, with a toy function for the model."""

import threading
import time
from collections.abc import Sequence

import pytest

from appliance.errors import ModelRefused
from appliance.inference.batching import Busy, Expired, Lane, Stopped

FAR = time.monotonic() + 1e6


class Toy:
    """Doubles numbers; refuses 13; waits at its gate when that is shut."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.entered.release()
        assert self.gate.wait(10)
        if 13 in items:
            raise ModelRefused("13 is refused", permanent=True)
        return [item * 2 for item in items]

    def shut(self, lane: Lane[int, int]) -> None:
        """Have the lane sit in a batch of its own, so that what comes now waits."""
        self.gate.clear()
        lane.submit([0], FAR)
        assert self.entered.acquire(timeout=10)


@pytest.fixture
def toy() -> Toy:
    return Toy()


@pytest.fixture
def lane(toy: Toy):
    lane: Lane[int, int] = Lane("toy", toy, max_batch=4, wait_s=0.001, queue_limit=6)
    yield lane
    toy.gate.set()
    lane.stop()


def test_what_waits_is_gathered_across_callers(lane: Lane[int, int], toy: Toy):
    toy.shut(lane)
    calls = [lane.submit([number], FAR) for number in range(1, 7)]
    toy.gate.set()
    assert [call.result(10) for call in calls] == [[2], [4], [6], [8], [10], [12]]
    assert toy.batches == [[0], [1, 2, 3, 4], [5, 6]]
    assert lane.figures().batches == {1: 1, 2: 1, 4: 1}


def test_one_call_larger_than_a_batch_is_answered_whole_and_in_order(lane: Lane[int, int]):
    assert lane.submit(range(11), FAR).result(10) == [2 * number for number in range(11)]
    assert lane.submit([], FAR).result(10) == []


def test_company_that_arrives_in_the_first_moment_shares_the_batch(toy: Toy):
    lane: Lane[int, int] = Lane("patient", toy, max_batch=2, wait_s=30.0, queue_limit=6)
    first = lane.submit([1], FAR)
    second = lane.submit([2], FAR)  # fills the batch, so the half minute is not waited out
    assert (first.result(10), second.result(10)) == ([2], [4])
    assert toy.batches == [[1, 2]]
    lane.stop()


def test_a_full_queue_is_busy_all_or_nothing(lane: Lane[int, int], toy: Toy):
    toy.shut(lane)
    waiting = lane.submit([1, 2, 3, 4], FAR)
    with pytest.raises(Busy, match="toy is busy: 4 items are waiting"):
        lane.submit([5, 6, 7], FAR)
    assert lane.figures().queued == 4
    lane.submit([5, 6], FAR)
    toy.gate.set()
    assert waiting.result(10) == [2, 4, 6, 8]


def test_a_bad_item_does_not_fail_its_neighbours(lane: Lane[int, int], toy: Toy):
    toy.shut(lane)
    good, bad, mixed = lane.submit([1], FAR), lane.submit([13], FAR), lane.submit([3, 13], FAR)
    toy.gate.set()
    assert good.result(10) == [2]
    assert isinstance(bad.result(10)[0], ModelRefused)
    assert mixed.result(10)[0] == 6
    assert isinstance(mixed.result(10)[1], ModelRefused)
    assert toy.batches[2:] == [[1], [13], [3], [13]]
    assert lane.figures().last_error == "13 is refused (batch of 1)"
    assert lane.submit([7], FAR).result(10) == [14]


def test_a_model_that_miscounts_fails_its_items_not_the_lane():
    lane: Lane[int, int] = Lane("miscounts", lambda items: [1, 2, 3], max_batch=2, wait_s=0, queue_limit=9)
    assert [type(each) for each in lane.submit([1, 2], FAR).result(10)] == [RuntimeError, RuntimeError]
    assert lane.figures().last_error == "RuntimeError (batch of 1)"
    lane.stop()


def test_an_item_whose_deadline_passed_is_not_asked(lane: Lane[int, int], toy: Toy):
    toy.shut(lane)
    late, alive = lane.submit([1], time.monotonic() - 1), lane.submit([2], FAR)
    toy.gate.set()
    assert isinstance(late.result(10)[0], Expired)
    assert alive.result(10) == [4]
    assert toy.batches == [[0], [2]]


def test_a_caller_that_left_is_not_asked_for(lane: Lane[int, int], toy: Toy):
    toy.shut(lane)
    left, stays = lane.submit([1, 2], FAR), lane.submit([3], FAR)
    assert left.cancel()
    toy.gate.set()
    assert stays.result(10) == [6]
    assert toy.batches == [[0], [3]]


def test_a_swap_waits_for_the_batch_in_hand_and_drops_nothing(lane: Lane[int, int], toy: Toy):
    toy.shut(lane)
    waiting = lane.submit([5], FAR)
    swapped = threading.Event()

    def swap() -> None:
        lane.swap(lambda items: [item * 100 for item in items], 4)
        swapped.set()

    thread = threading.Thread(target=swap)
    thread.start()
    while lane._ask is toy:
        time.sleep(0.001)
    assert not swapped.is_set()
    toy.gate.set()
    assert swapped.wait(10)
    thread.join()
    assert waiting.result(10) == [500]
    assert toy.batches == [[0]]


def test_stop_answers_what_waits_and_takes_nothing_more(toy: Toy):
    lane: Lane[int, int] = Lane("toy", toy, max_batch=4, wait_s=0.001, queue_limit=6)
    toy.shut(lane)
    waiting = lane.submit([1, 2], FAR)
    stopper = threading.Thread(target=lane.stop)
    stopper.start()
    toy.gate.set()
    stopper.join(10)
    assert waiting.result(0) == [2, 4]
    with pytest.raises(Stopped):
        lane.submit([3], FAR)


def test_latencies_are_measured(lane: Lane[int, int]):
    for number in range(20):
        lane.submit([number], FAR).result(10)
    figures = lane.figures()
    assert figures.answered == 20
    assert 0 < figures.p50_ms <= figures.p99_ms


def test_many_threads_each_get_their_own_answers(toy: Toy):
    lane: Lane[int, int] = Lane("crowd", toy, max_batch=8, wait_s=0.001, queue_limit=1000)
    wrong: list[int] = []

    def ask(start: int) -> None:
        for number in range(start, start + 50):
            if lane.submit([number, -number], FAR).result(10) != [2 * number, -2 * number]:
                wrong.append(number)

    threads = [threading.Thread(target=ask, args=(1000 * start,)) for start in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lane.stop()
    assert wrong == []
    assert lane.figures().answered == 800
