"""How many requests this process is at, and when one more is turned away: said at once, it costs a fraction of a
millisecond; let in, it would wait behind all others, and in the end nobody were answered in time."""

from typing import Any, cast

from appliance.errors import Unavailable

RETRY_AFTER_S = 1
PLACE = "place"
"""In a request's state: its own."""


class Crowd:
    """One process's; used from its event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.size = 0

    def check(self) -> None:
        """Raises Unavailable."""
        if self.size >= self._most:
            raise Unavailable(
                "Too many requests are being answered (server.max_requests_at_once); nothing was done. Try again",
                retry_after_s=RETRY_AFTER_S,
            )


class Place:
    """One request's, from when it is whole until its answer is, or is streamed: who dribbles a body, and who listens
    to a stream, is in nobody's way."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._is_in = False

    def enter(self) -> None:
        """Raises Unavailable when there is no room."""
        if not self._is_in:
            self._crowd.check()
            self._crowd.size += 1
            self._is_in = True

    def leave(self) -> None:
        if self._is_in:
            self._crowd.size -= 1
            self._is_in = False


def step_aside(scope: Any) -> None:
    """This request waits for others to do its work from here on, and is in nobody's way."""
    place = cast("Place | None", scope["state"].get(PLACE))
    if place is not None:
        place.leave()
