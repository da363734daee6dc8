"""Whose request this is: its id, in every log line of every process on its way, and its spans where the operator wants
them. No content: ids, kinds, counts and milliseconds.

The id travels by itself: with the job's row to the worker, in a header over the Unix socket to the model process.
Spans are OpenTelemetry's (appliance/otel.py), which is neither imported nor needed while they are off.
"""

import contextlib
import importlib
from collections.abc import Callable, Generator
from contextvars import ContextVar
from typing import Protocol

REQUEST_HEADER = "x-request-id"

Attribute = str | int | float

_REQUEST: ContextVar[str] = ContextVar("request", default="")


class Span(Protocol):
    """What is being timed; facts that are known only as it ends are added here."""

    def set_attribute(self, key: str, value: Attribute) -> None: ...


class Spans(Protocol):
    """Where spans go."""

    def span(
        self, name: str, request: str, attributes: dict[str, Attribute]
    ) -> contextlib.AbstractContextManager[Span]:
        """One of our own, below whatever is being timed in this thread or task."""
        ...

    def door(
        self, name: str, request: str, parent: str, attributes: dict[str, Attribute]
    ) -> contextlib.AbstractContextManager[Span]:
        """The first of a request; `parent` is the caller's traceparent header, or nothing."""
        ...

    def elsewhere(self, process: str, name: str, ms: float, attributes: dict[str, Attribute]) -> None:
        """What another process did for us just now, which tells nobody itself."""
        ...

    def close(self) -> None: ...


class _Nothing:
    def set_attribute(self, key: str, value: Attribute) -> None:
        return None


NOTHING: Span = _Nothing()

_spans: Spans | None = None


def request_id() -> str:
    """Of the request that this thread or task is at work for; empty when it is none's."""
    return _REQUEST.get()


@contextlib.contextmanager
def request(id: str | None) -> Generator[None]:
    """At work for this request until the block ends; None and empty stand for no request."""
    token = _REQUEST.set(id or "")
    try:
        yield
    finally:
        _REQUEST.reset(token)


def start(process: str, endpoint: str) -> Callable[[], None]:
    """Send this process's spans to `endpoint`, an OTLP collector over HTTP; empty = keep none. Answers what ends it.
    Called in the process's main. Raises Misconfigured when OpenTelemetry is wanted and not installed."""
    if not endpoint:
        return lambda: None
    opened = importlib.import_module("appliance.otel").opened(process, endpoint)
    use(opened)

    def end() -> None:
        use(None)
        opened.close()

    return end


def use(spans: Spans | None) -> None:
    """Have all spans of this process go there from now on; None = nowhere."""
    global _spans
    _spans = spans


def is_on() -> bool:
    return _spans is not None


@contextlib.contextmanager
def span(name: str, **attributes: Attribute) -> Generator[Span]:
    """Time this block. Costs a microsecond while spans are off."""
    if _spans is None:
        yield NOTHING
        return
    with _spans.span(name, request_id(), attributes) as opened:
        yield opened


@contextlib.contextmanager
def door(name: str, parent: str, **attributes: Attribute) -> Generator[Span]:
    """The same for a request as it comes in."""
    if _spans is None:
        yield NOTHING
        return
    with _spans.door(name, request_id(), parent, attributes) as opened:
        yield opened


def elsewhere(process: str, name: str, ms: float, **attributes: Attribute) -> None:
    """Tell what another process did for us, which ended just now."""
    if _spans is not None:
        _spans.elsewhere(process, name, ms, {REQUEST: request_id(), **attributes})


REQUEST = "customhouse.request_id"
