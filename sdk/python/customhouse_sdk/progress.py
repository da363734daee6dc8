"""Server-sent events, without any socket: lines go in, states come out, and a broken stream is taken up again."""

import msgspec

from customhouse_sdk.answers import Progress
from customhouse_sdk.errors import UnexpectedAnswer

SILENCE_S = 45.0
"""A stream says something every 15 seconds: after three times that it is dead."""

_Progress = msgspec.json.Decoder(Progress)


class Following:
    """One job's stream through all its connections."""

    def __init__(self) -> None:
        self.id = ""
        """Of the last event that came whole: where a new connection goes on."""
        self._next_id = ""
        self._data: list[str] = []
        self._shown: Progress | None = None
        self._silent = 0
        self.pause_s = 3.0
        """Before connecting again; the server says."""
        self.is_over = False

    def feed(self, line: str) -> Progress | None:
        """A state that was not shown before, or None."""
        if not line:
            return self._state()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "data":
                self._data.append(value)
            case "id":
                self._next_id = value
            case "retry" if value.isdigit():
                self.pause_s = int(value) / 1000
            case _:
                pass  # comments, and the event's name: both kinds hold the whole state
        return None

    def broke(self) -> bool:
        """The connection ended before the job did. Whether to connect again: not when three in a row said nothing."""
        self._data, self._next_id = [], self.id
        self._silent += 1
        return self._silent <= 3

    def _state(self) -> Progress | None:
        data, self._data, self.id = "\n".join(self._data), [], self._next_id
        if not data:
            return None
        try:
            state = _Progress.decode(data)
        except msgspec.MsgspecError as error:
            raise UnexpectedAnswer(f"the stream holds what is no state of a job: {error}") from error
        self._silent = 0
        self.is_over = state.status in ("completed", "failed")
        if state == self._shown:
            return None
        self._shown = state
        return state
