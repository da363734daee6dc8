"""A lane: the queue in front of one model, and the thread that gathers what waits, from all callers, into batches.

A lane knows nothing of models: it is given a function that answers a list of items with a list of results.
"""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

import msgspec

from appliance import tracing
from appliance.errors import CustomhouseError

log = logging.getLogger(__name__)

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

_REMEMBERED = 2048
"""Latencies kept for the percentiles: the latest ones."""


class Busy(CustomhouseError):
    """The lane is full; the caller may try again."""


class Stopped(CustomhouseError):
    """The lane takes nothing any more."""


class Expired(CustomhouseError):
    """Its deadline passed while the item waited; it was not asked."""


class Figures(msgspec.Struct, frozen=True):
    """What a lane has measured. Latency is from being handed in to being answered."""

    queued: int
    answered: int
    batches: dict[int, int]
    p50_ms: float
    p99_ms: float
    last_error: str | None


class _Call(Generic[ItemT, ResultT]):
    """What one caller asked at once: answered together, though its items may be batched with those of others."""

    def __init__(self, items: Sequence[ItemT], deadline: float) -> None:
        self.items = items
        self.deadline = deadline
        self.handed_in = time.monotonic()
        self.future: Future[list[ResultT | Exception]] = Future()
        self.results: list[ResultT | Exception | None] = [None] * len(items)
        self.missing = len(items)
        self.request = tracing.request_id()


_Waiting = tuple[_Call[ItemT, ResultT], int]
"""A call, and the place of one of its items."""


class Lane(Generic[ItemT, ResultT]):
    """Threads may share it. `ask` is only ever called from the lane's own thread."""

    def __init__(
        self,
        name: str,
        ask: Callable[[Sequence[ItemT]], Sequence[ResultT]],
        *,
        max_batch: int,
        wait_s: float,
        queue_limit: int,
    ) -> None:
        self.name = name
        self._ask = ask
        self._max_batch = max_batch
        self._wait_s = wait_s
        self._queue_limit = queue_limit
        self._changed = threading.Condition()
        self._waiting: deque[_Waiting[ItemT, ResultT]] = deque()
        self._asking: Callable[[Sequence[ItemT]], Sequence[ResultT]] | None = None
        self._asked_at: float | None = None
        self._is_stopped = False
        self._answered = 0
        self._batches: Counter[int] = Counter()
        self._latencies: deque[float] = deque(maxlen=_REMEMBERED)
        self._last_error: str | None = None
        self._thread = threading.Thread(target=self._run, name=f"lane {name}", daemon=True)
        self._thread.start()

    def submit(self, items: Sequence[ItemT], deadline: float) -> Future[list[ResultT | Exception]]:
        """All the items' results, in order; what failed has its exception there. `deadline` is in monotonic seconds.

        Raises Busy when the items do not fit any more, all or none of them, and Stopped. Cancel the future and what has
        not begun is dropped.
        """
        call: _Call[ItemT, ResultT] = _Call(items, deadline)
        if not items:
            call.future.set_result([])
            return call.future
        with self._changed:
            if self._is_stopped:
                raise Stopped(f"{self.name} is not loaded.")
            # A call that alone is larger than the limit is still taken by an empty lane: it could never fit otherwise.
            if self._waiting and len(self._waiting) + len(items) > self._queue_limit:
                raise Busy(f"{self.name} is busy: {len(self._waiting)} items are waiting. Try again.")
            self._waiting.extend((call, place) for place in range(len(items)))
            self._changed.notify_all()
        return call.future

    def swap(self, ask: Callable[[Sequence[ItemT]], Sequence[ResultT]], max_batch: int) -> None:
        """Batches from now on go to `ask`; returns when the former one has nothing in hand."""
        with self._changed:
            former, self._ask, self._max_batch = self._ask, ask, max_batch
            self._changed.wait_for(lambda: self._asking is not former)

    def stop(self) -> None:
        """Take nothing more, answer what waits, and return when that is done."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
        self._thread.join()

    def is_stuck(self, limit_s: float) -> bool:
        """One batch has been in hand for so long, or nobody is there to take one."""
        asked_at = self._asked_at
        if asked_at is not None and time.monotonic() - asked_at > limit_s:
            return True
        return not self._thread.is_alive() and not self._is_stopped

    def figures(self) -> Figures:
        with self._changed:
            ordered = sorted(self._latencies)
            return Figures(
                queued=len(self._waiting),
                answered=self._answered,
                batches=dict(sorted(self._batches.items())),
                p50_ms=_percentile(ordered, 0.50),
                p99_ms=_percentile(ordered, 0.99),
                last_error=self._last_error,
            )

    def _run(self) -> None:
        while True:
            batch = self._gather()
            if batch is None:
                return
            if batch:
                self._answer(batch)
            del batch  # or an idle lane would hold its last pictures
            with self._changed:
                self._asking = self._asked_at = None
                self._changed.notify_all()

    def _gather(self) -> list[_Waiting[ItemT, ResultT]] | None:
        """The next batch: what waits, as it came. An idle lane gives the first item a moment for company to arrive; a
        busy one does not, because company arrived while it worked. None when the lane has stopped and is empty."""
        with self._changed:
            if not self._waiting:
                self._changed.wait_for(lambda: self._waiting or self._is_stopped)
                if not self._waiting:
                    return None
                self._changed.wait_for(lambda: len(self._waiting) >= self._max_batch or self._is_stopped, self._wait_s)
            now = time.monotonic()
            batch: list[_Waiting[ItemT, ResultT]] = []
            while self._waiting and len(batch) < self._max_batch:
                call, place = self._waiting.popleft()
                if call.future.cancelled():
                    continue
                if call.deadline < now:
                    self._finish(call, place, Expired("It waited too long for the model; its deadline passed."))
                else:
                    batch.append((call, place))
            self._asking, self._asked_at = self._ask, now
            return batch

    def _answer(self, batch: list[_Waiting[ItemT, ResultT]]) -> None:
        ask = self._asking
        assert ask is not None, "gathered for this one"
        requests = [call.request for call, _ in batch]
        results = self._results(ask, [call.items[place] for call, place in batch], requests)
        now = time.monotonic()
        with self._changed:
            self._answered += len(batch)
            self._latencies.extend(now - call.handed_in for call, _ in batch)
        for (call, place), result in zip(batch, results, strict=True):
            self._finish(call, place, result)

    def _results(
        self, ask: Callable[[Sequence[ItemT]], Sequence[ResultT]], items: Sequence[ItemT], requests: Sequence[str]
    ) -> Sequence[ResultT | Exception]:
        """One result an item. When the batch fails it is asked item by item, so that a bad one fails alone."""
        with self._changed:
            self._batches[len(items)] += 1
            self._asked_at = time.monotonic()
        try:
            results = ask(items)
            if len(results) != len(items):
                raise RuntimeError(f"{len(results)} answers to {len(items)} items")
        except Exception as error:
            self._note(error, len(items), requests)
            if len(items) == 1:
                return [error]
            alone = zip(items, requests, strict=True)
            return [result for item, request in alone for result in self._results(ask, [item], [request])]
        return results

    def _finish(self, call: _Call[ItemT, ResultT], place: int, result: ResultT | Exception) -> None:
        call.results[place] = result
        call.missing -= 1
        # set_running_or_notify_cancel is what makes a later cancel() impossible; it answers False after an earlier one.
        if call.missing == 0 and call.future.set_running_or_notify_cancel():
            call.future.set_result([each for each in call.results if each is not None])

    def _note(self, error: Exception, size: int, requests: Sequence[str]) -> None:
        said = error.message if isinstance(error, CustomhouseError) else type(error).__name__
        with self._changed:
            self._last_error = f"{said} (batch of {size})"
        named = ",".join(dict.fromkeys(filter(None, requests))) or None
        log.warning("batch failed", extra={"model": self.name, "items": size, "requests": named}, exc_info=error)


def _percentile(ordered: list[float], share: float) -> float:
    """In milliseconds; 0 when nothing was measured."""
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000, 3) if ordered else 0.0
