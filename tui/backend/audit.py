"""The audit log: who changed what, and why. Lines are only ever added, so a list of their numbers stays true."""

import bisect
import shlex
import threading
from array import array

from appliance import audit, clock
from appliance.accounts import organisations
from appliance.audit import Filter, Line
from appliance.errors import InvalidRequest
from tui.backend.desk import Desk

__all__ = ["Filter", "Line", "Log", "asked", "line", "parts"]

STRETCH = 50_000
"""Lines that one step looks at."""
_FIRST = 500  # the first step is this short, so that the first page comes at once

NAMES = ("actor", "action", "subject", "org", "from", "to")
"""What may stand before a colon in the filter."""


class Log:
    """The list under one filter, newest first. Any thread may ask it anything."""

    def __init__(self, desk: Desk, wanted: Filter) -> None:
        self._desk = desk
        self._wanted = wanted
        self._lock = threading.Lock()
        self.names = {one.id: one.name for one in desk.read(organisations.every)}
        self._lowest, self._newest = desk.read(audit.edges)
        self._below = self._newest + 1
        self._found = array("q")
        self._step = _FIRST
        self.grow()

    def __len__(self) -> int:
        return len(self._found)

    @property
    def is_whole(self) -> bool:
        return self._below <= self._lowest or self._newest == 0

    @property
    def looked_at(self) -> float:
        return 1.0 if self.is_whole else (self._newest + 1 - self._below) / (self._newest + 1 - self._lowest)

    def grow(self) -> bool:
        """One stretch more; False when there is none left."""
        with self._lock:
            if self.is_whole:
                return False
            first = max(self._below - self._step, self._lowest)
            older = self._desk.read(lambda conn: audit.ids(conn, self._wanted, first, self._below))
            self._found = older + self._found
            self._below, self._step = first, STRETCH
            return not self.is_whole

    def renew(self) -> bool:
        """Take in what was added since; whether anything was."""
        with self._lock:
            lowest, newest = self._desk.read(audit.edges)
            if newest == self._newest:
                return False
            fresh = self._desk.read(lambda conn: audit.ids(conn, self._wanted, self._newest + 1, newest + 1))
            if self._newest == 0:
                self._lowest = self._below = lowest
            self._newest = newest
            self._found = self._found + fresh
            return bool(fresh)

    def newest(self) -> int:
        return self._found[-1] if self._found else 0

    def newer_than(self, number: int) -> int:
        return len(self._found) - bisect.bisect_right(self._found, number)

    def place(self, number: int, *, oldest_first: bool = False) -> int | None:
        at = bisect.bisect_left(self._found, number)
        if at == len(self._found) or self._found[at] != number:
            return None
        return at if oldest_first else len(self._found) - 1 - at

    def read(self, first: int, count: int, *, oldest_first: bool = False) -> list[Line]:
        found = self._found
        if oldest_first:
            numbers = found[first : first + count].tolist()
        else:
            last = len(found) - first
            numbers = found[max(last - count, 0) : max(last, 0)][::-1].tolist()
        return self._desk.read(lambda conn: audit.by_ids(conn, numbers))

    def name_of(self, org_id: str | None) -> str:
        """The organisation's name; "" when it concerned none, its id when it was erased."""
        return self.names.get(org_id, org_id) if org_id is not None else ""


def asked(desk: Desk, text: str) -> Filter:
    """What a filter asks for: `actor:operator:kim action:key.revoked subject:ID org:NAME from:2h to:1h`; other words
    are searched in all of a line. Raises Refused with what is wrong."""
    given: dict[str, str] = {}
    loose: list[str] = []
    for word in parts(text):
        name, colon, value = word.partition(":")
        if colon and name.lower() in NAMES:
            given[name.lower()] = value
        else:
            loose.append(word)
    return Filter(
        actor=given.get("actor") or None,
        action=given.get("action") or None,
        subject=given.get("subject") or None,
        org_id=desk.read(lambda conn: organisations.referred(conn, given["org"])).id if given.get("org") else None,
        since=_moment(desk, given.get("from")),
        until=_moment(desk, given.get("to")),
        search=" ".join(loose) or None,
    )


def parts(text: str) -> list[str]:
    """The words of a filter; quotes hold several together."""
    try:
        return shlex.split(text)
    except ValueError:  # a quote that is still open: somebody is typing
        return text.split()


def line(desk: Desk, number: int) -> Line | None:
    return next(iter(desk.read(lambda conn: audit.by_ids(conn, [number]))), None)


def _moment(desk: Desk, given: str | None) -> int | None:
    try:
        return clock.moment(given, desk.now()) if given else None
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
