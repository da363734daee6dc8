"""The other side of the model process's socket: what everybody else calls to ask the models. Holds no weights."""

import http.client
import select
import socket
import time
from collections import deque
from pathlib import Path
from typing import TypeVar

import msgspec

from appliance import tracing
from appliance.errors import Failure, InferenceDown, InferenceTimeout, ModelUnavailable
from appliance.inference.wire import Answer, LookRequest, ModelStatus, ReadRequest, Reply, Status

MSGPACK = "application/vnd.msgpack"
DEADLINE_HEADER = "x-deadline-ms"
"""How long the caller still waits; what has not begun by then is dropped."""
TOOK_HEADER = "x-took-ms"
"""What it took the model process, in its answer."""

_STATUS_S = 5.0
_LOADING_S = 600.0  # a large model takes minutes from a slow disk
_DOWN = "The model process does not answer; it may be starting. If it is not, start it: customhouse infer"

BodyT = TypeVar("BodyT")


class Models:
    """The models behind one socket. Threads may share it; each call takes a connection of its own and gives it back.

    Every call raises InferenceDown when the process is not there, dies in mid-call or says busy, and InferenceTimeout
    when it does not answer in time. Nothing is sent twice: whether to ask again is the caller's to decide.
    """

    def __init__(self, socket: Path, deadline_s: float) -> None:
        self._path = str(socket)
        self._deadline_s = deadline_s
        self._idle: deque[_Connection] = deque()
        self._is_closed = False

    def look(self, request: LookRequest) -> list[dict[str, Answer]]:
        """For each image, in order: model → what it says, or its problem."""
        return self._call("POST", "/look", request, Reply, self._deadline_s).items

    def read(self, request: ReadRequest, deadline_s: float | None = None) -> list[dict[str, Answer]]:
        """For each text, in order: model → what it says, or its problem. `deadline_s` is this call's own."""
        wait_s = self._deadline_s if deadline_s is None else deadline_s
        return self._call("POST", "/read", request, Reply, wait_s).items

    def status(self) -> Status:
        return self._call("GET", "/status", None, Status, min(self._deadline_s, _STATUS_S))

    def load(self, name: str) -> ModelStatus:
        """The model is ready afterwards, if it was not. Raises ModelUnavailable with the reason when it cannot be."""
        return self._change(name, "load")

    def unload(self, name: str) -> ModelStatus:
        """Its memory is given back; what was waiting for it is answered first."""
        return self._change(name, "unload")

    def reload(self, name: str) -> ModelStatus:
        """Opened anew from disk and put in the old one's place between two batches; no request is dropped."""
        return self._change(name, "reload")

    def close(self) -> None:
        self._is_closed = True  # a call that is under way closes its own
        while self._idle:
            self._idle.pop().close()

    def _change(self, name: str, verb: str) -> ModelStatus:
        return self._call("POST", f"/models/{name}/{verb}", None, ModelStatus, _LOADING_S)

    def _call(self, method: str, path: str, body: object, answer: type[BodyT], deadline_s: float) -> BodyT:
        if body is None or not tracing.is_on():
            return self._asked(method, path, body, answer, deadline_s)
        with tracing.span(f"ask models {path}"):
            return self._asked(method, path, body, answer, deadline_s)

    def _asked(self, method: str, path: str, body: object, answer: type[BodyT], deadline_s: float) -> BodyT:
        data = b"" if body is None else msgspec.msgpack.encode(body)
        headers = {"content-type": MSGPACK, DEADLINE_HEADER: str(int(deadline_s * 1000))}
        if request := tracing.request_id():
            headers[tracing.REQUEST_HEADER] = request
        connection = self._connection()
        give_up = time.monotonic() + deadline_s
        try:
            connection.wait_until(give_up)
            connection.request(method, path, data, headers)
            connection.wait_until(give_up)
            response = connection.getresponse()
            received = response.read()
        except TimeoutError as error:
            connection.close()
            raise InferenceTimeout(f"The models gave no answer within {deadline_s:g} s.") from error
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise InferenceDown(_DOWN) from error
        except BaseException:
            connection.close()
            raise
        if response.will_close or self._is_closed:
            connection.close()
        else:
            self._idle.append(connection)
        if tracing.is_on() and (took := response.headers.get(TOOK_HEADER)):
            tracing.elsewhere("models", f"answer {path}", float(took), status=response.status)
        if response.status >= 400:
            raise _refusal(response.status, received)
        return msgspec.msgpack.decode(received, type=answer)

    def _connection(self) -> "_Connection":
        """An idle one that the process has not closed since, else a new one; it connects when it is first used."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return _Connection(self._path)
            if connection.is_open():
                return connection
            connection.close()


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket. httpx takes three times the CPU for a small call: 0.3 against 0.1 ms."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path
        self._give_up = 0.0

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._apply()
        self.sock.connect(self._path)

    def wait_until(self, moment: float) -> None:
        """The next step may take until `moment`, in monotonic seconds. Raises TimeoutError when it has passed."""
        self._give_up = moment
        if self.sock is not None:
            self._apply()

    def is_open(self) -> bool:
        """An idle connection has nothing to read; one that has was closed by the other side."""
        if self.sock is None:
            return False
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return not poll.poll(0)

    def _apply(self) -> None:
        left = self._give_up - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.sock.settimeout(left)


class _Message(msgspec.Struct, frozen=True):
    message: str


def _refusal(status: int, body: bytes) -> Failure:
    try:
        message = msgspec.msgpack.decode(body, type=_Message).message
    except msgspec.MsgspecError:
        message = f"The model process answered {status}."
    if status >= 500:
        return InferenceDown(message)
    return ModelUnavailable(message, permanent=True)
