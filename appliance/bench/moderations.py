"""Decisions over HTTP: what one text costs by the rules alone, its event on disk before the answer; what is left of the
server's own pace; and what the judge gains from callers that ask at once."""

import contextlib
import http.client
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import msgspec

from appliance import audit
from appliance.accounts import keys, organisations
from appliance.accounts.organisations import Changes
from appliance.bench import callers, rig
from appliance.bench.callers import Load
from appliance.database import Connection
from appliance.errors import CustomhouseError
from appliance.house import House
from appliance.inference import manifest
from appliance.inference.runtime import missing_files
from appliance.policies import change as policies
from appliance.policies import rows
from appliance.policies.change import By
from appliance.settings import Settings
from appliance.text.analysis import ANALYZERS, HEADS

JUDGE = "smollm2-135m"
"""The starter judge: what is measured is the batching, not its word."""

_START_S = 60.0
_ALONE = 400
_CLIENTS = 16
_ROUNDS = 8
_ROUND_S = 1.5
_JUDGED = 48
_SAID = (
    "The ferry leaves at seven in the morning and comes back before it gets dark. Please bring a warm coat, because "
    "the hall isn't heated in autumn, and tell your neighbour that the parcel has arrived. Number {}."
)


class _Served(msgspec.Struct):
    house: House
    org_id: str
    port: int
    key: str


def run(settings: Settings) -> dict[str, Any]:
    """Milliseconds and requests a second. Raises CustomhouseError when the server does not start."""
    with _serving(settings, ("serve",)) as served:
        _by_rules_only(served)
        figures: dict[str, Any] = {"alone": _alone(served), "together": _together(served)}
    told, folder = manifest.read(settings.models_dir / JUDGE), settings.weights_dir / JUDGE
    if missing_files(told, folder):
        return {**figures, "judged": f"{JUDGE} is not there; run: customhouse models fetch {JUDGE}"}
    judging = {"CUSTOMHOUSE_INFERENCE_TEXT_JUDGE": JUDGE, "CUSTOMHOUSE_INFERENCE_MODELS": JUDGE}
    with _serving(settings, ("infer", "serve"), judging) as served:
        _by_judge_always(served)
        figures["judged"] = _judged(served)
    return figures


def _alone(served: _Served) -> dict[str, float]:
    """One client, one request after the other."""
    took: list[float] = []
    with _client(served) as ask:
        for number in range(_ALONE + 50):
            begun = time.perf_counter()
            ask(_moderation(served, f"alone {number}"))
            if number >= 50:
                took.append(time.perf_counter() - begun)
    return {
        "p50_ms": round(statistics.median(took) * 1000, 2),
        "p99_ms": round(rig.percentile(took, 0.99) * 1000, 2),
        "aim_p50_ms": 5.0,
    }


def _together(served: _Served) -> dict[str, float]:
    """So many clients at once, against an empty handler of the same server; in turns, so that what else the machine
    does meets both."""
    empty: list[float] = []
    moderated: list[float] = []
    for turn in range(_ROUNDS):
        nothing = callers.rate(Load(served.port, _request(b"GET /health/live", b"", b""), _CLIENTS, _ROUND_S))
        text = _moderation(served, callers.NUMBER.decode())
        texts = callers.rate(Load(served.port, text, _CLIENTS, _ROUND_S, turn * 1_000_000))
        if turn:  # the first is for warming up
            empty.append(nothing)
            moderated.append(texts)
    return {
        "clients": _CLIENTS,
        "empty_per_s": round(statistics.median(empty)),
        "moderations_per_s": round(statistics.median(moderated)),
        "ratio": round(statistics.median(ours / bare for ours, bare in zip(moderated, empty, strict=True)), 3),
        "aim_ratio": 0.4,
    }


def _judged(served: _Served) -> dict[str, float]:
    """Texts a second, all read by the judge: one caller after the other, then so many callers at once."""
    with _client(served) as ask:
        ask(_moderation(served, "to load it"))
        begun = time.perf_counter()
        for number in range(_CLIENTS):
            ask(_moderation(served, f"one by one {number}"))
        alone = _CLIENTS / (time.perf_counter() - begun)

    def caller(number: int) -> None:
        with _client(served) as ask:
            for turn in range(_JUDGED // _CLIENTS):
                ask(_moderation(served, f"together {number} {turn}"))

    together = _JUDGED / rig.in_parallel(_CLIENTS, caller)
    conn = served.house.db.reader()
    (judged,) = conn.execute("SELECT sum(text_llm_credits) FROM moderation_use").fetchone()
    if judged != 1 + _CLIENTS + _JUDGED:
        raise CustomhouseError(f"the judge read {judged} of {1 + _CLIENTS + _JUDGED} texts; the machine is too busy")
    return {
        "one_by_one_per_s": round(alone, 1),
        "together_per_s": round(together, 1),
        "callers": _CLIENTS,
        "ratio": round(together / alone, 2),
    }


# --- a client that costs little beside the server it measures --------------------------------------------------------


@contextlib.contextmanager
def _client(served: _Served) -> Generator[Callable[[bytes], None]]:
    """Sends what it is given and reads the answer, on one connection; the client has the same cores as the server."""
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def ask(request: bytes) -> None:
            connection.sendall(request)
            received = connection.recv(65_536)
            while (end := received.find(b"\r\n\r\n")) < 0:
                received += connection.recv(65_536)
            head = received[:end].lower()
            if not head.startswith(b"http/1.1 200"):
                raise CustomhouseError(f"the server answered {received[:200]!r}")
            left = int(head.split(b"content-length:")[1].split(b"\r\n")[0]) - (len(received) - end - 4)
            while left > 0:
                left -= len(connection.recv(65_536))

        yield ask


def _moderation(served: _Served, name: str) -> bytes:
    body = b'{"modality":"text","input":"' + _SAID.format(name).encode() + b'"}'
    return _request(b"POST /omnimod/v1/moderations", b"Authorization: Bearer " + served.key.encode() + b"\r\n", body)


def _request(line: bytes, headers: bytes, body: bytes) -> bytes:
    return (
        line
        + b" HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
        + headers
        + b"\r\n"
        + body
    )


# --- the server ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _serving(base: Settings, commands: tuple[str, ...], environ: dict[str, str] | None = None) -> Generator[_Served]:
    """These processes, in a scratch state directory, and a key that may ask as often as it likes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with rig.scratch(base) as settings:
        house = House(settings)
        org_id, key = house.db.write(lambda conn: _enrol(conn, house))
        said = {
            **os.environ,
            **(environ or {}),
            "CUSTOMHOUSE_HOME": str(settings.home),
            "CUSTOMHOUSE_SERVER_PORT": str(port),
            "CUSTOMHOUSE_LOG_LEVEL": "error",
        }
        running = [subprocess.Popen([sys.executable, "-m", "appliance", name], env=said) for name in commands]
        try:
            _wait(port, running, settings.inference_socket if "infer" in commands else None)
            yield _Served(house, org_id, port, key)
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait(30)
            house.close()


def _enrol(conn: Connection, house: House) -> tuple[str, str]:
    org_id = organisations.get_or_create(conn, "bench").id
    often = Changes(requests_per_minute=1_000_000, plan="flex")
    organisations.change(conn, org_id, often, actor=audit.operator(), reason="a benchmark")
    rows.begin(conn, org_id, house.settings.policies_dir)
    return org_id, keys.create(conn, house.pepper, org_id, "bench", surface="omnimod")[1]


def _by_rules_only(served: _Served) -> None:
    _change(served, {"analyzers": {name: {"enabled": False} for name in HEADS}})


def _by_judge_always(served: _Served) -> None:
    off = {name: {"enabled": False} for name in HEADS}
    _change(served, {"analyzers": off, "semantic": {"mode": "always", "deadline_ms": 20_000}})


def _change(served: _Served, given: dict[str, Any]) -> None:
    def change(conn: Connection) -> None:
        policy = rows.find(conn, served.org_id, rows.DEFAULT)
        policies.add(conn, policy, given, ANALYZERS, By(audit.operator(), "a benchmark"))

    served.house.db.write(change)


def _wait(port: int, running: list[subprocess.Popen[bytes]], also: Path | None) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until and all(process.poll() is None for process in running):
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            connection.request("GET", "/health/live")
            if connection.getresponse().status == 200 and (also is None or also.exists()):
                connection.close()
                time.sleep(2.0)  # the engine reads its models beside the start
                return
        time.sleep(0.1)
    raise CustomhouseError("the server did not start")
