"""How the processes are after a change of version: asked over the operators' socket, which is there whatever address,
port and certificate the API is on."""

import http.client
import json
import socket
import time
from pathlib import Path
from typing import Any

import msgspec

from appliance.errors import CustomhouseError
from appliance.inference.client import Models
from appliance.inference.wire import ModelState
from appliance.services import API, Services
from appliance.settings import Settings

_EVERY_S = 0.1
_ANSWER_S = 5.0


class Found(msgspec.Struct, frozen=True):
    """What /health says."""

    version: str
    is_up: bool
    said: list[str]


def of(settings: Settings) -> Found | None:
    """None when the API does not answer."""
    door = _AtSocket(settings.admin_socket)
    try:
        door.request("GET", "/health")
        answer = door.getresponse()
        body: Any = json.loads(answer.read())
        return Found(str(body["version"]), answer.status == 200, list(body.get("degraded", [])))
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return None
    finally:
        door.close()


def lacks(settings: Settings, services: Services, meant: tuple[str, ...], code: str, *, was_up: bool) -> str:
    """What is not as it has to be, in one sentence; empty when all is well. What was not well before need not be."""
    for name in meant:
        if not services.is_active(name):
            return f"customhouse-{name} does not run"
    if API not in meant:
        return ""
    found = of(settings)
    if found is None:
        return "the API does not answer"
    if found.version != code:
        return f"the API that answers is version {found.version}"
    if was_up and not found.is_up:
        return found.said[0] if found.said else "GET /health says 503"
    return ""


def wait(
    settings: Settings, services: Services, meant: tuple[str, ...], code: str, *, was_up: bool, until: float
) -> str:
    """Until all is well: then empty. Else what was still missing at the end (of the monotonic clock)."""
    while True:
        missing = lacks(settings, services, meant, code, was_up=was_up)
        if not missing or time.monotonic() > until:
            return missing
        time.sleep(_EVERY_S)


def wait_for_models(settings: Settings, for_s: float) -> bool:
    """Until the model process has opened what it opens, so that who is let in is answered at once."""
    until = time.monotonic() + for_s
    models = Models(settings.inference_socket, settings.inference.deadline_s)
    try:
        while time.monotonic() < until:
            try:
                if all(one.state is not ModelState.LOADING for one in models.status().models):
                    return True
            except CustomhouseError:
                pass  # it is not there yet
            time.sleep(_EVERY_S)
        return False
    finally:
        models.close()


class _AtSocket(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_ANSWER_S)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
