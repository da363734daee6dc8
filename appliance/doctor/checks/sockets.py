"""The doors in <home>/run: who answers there, and what dead processes left."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path

from appliance.doctor.context import Context
from appliance.doctor.finding import Check, Outcome, failed, ok, skipped, warning

_LANES = ("prompts", "media", "webhooks")
_ANSWER_S = 5.0


def is_listening(path: Path) -> bool:
    """Somebody holds this socket, of either kind; nothing is said to it."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_UNIX, kind) as probe:
            probe.settimeout(_ANSWER_S)
            try:
                probe.connect(str(path))
            except OSError:
                continue
            return True
    return False


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_ANSWER_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_ANSWER_S)
        self.sock.connect(str(self._path))


def status(path: Path, address: str) -> int | None:
    """The status of one GET at a Unix socket; None when nothing answers."""
    asked = _Connection(path)
    try:
        asked.request("GET", address)
        return asked.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        asked.close()


def _answers(context: Context, path: Path, address: str, process: str) -> Outcome:
    if not path.exists():
        return skipped(f"The {process} does not run here; see systemd.active or run: customhouse up")
    code = status(path, address)
    if code is None:
        return failed(
            f"{path.name} is there, and nobody answers",
            cause="the process ended without clearing up, or it hangs",
            fix="customhouse up (or systemctl restart 'customhouse-*'); customhouse doctor sockets --fix removes "
            "dead ones",
            answered=False,
        )
    if code >= 500:
        return failed(
            f"{path.name} answers {code}",
            cause="the process is up and has a fault",
            fix="read its log: journalctl -u 'customhouse-*' -n 100, or the terminal of customhouse up",
            status=code,
        )
    return ok(f"The {process} answers", status=code)


def _admin(context: Context) -> Outcome:
    return _answers(context, context.house().admin_socket, "/health/live", "API")


def _inference(context: Context) -> Outcome:
    return _answers(context, context.house().inference_socket, "/status", "model process")


def _doorbells(context: Context) -> Outcome:
    paths = [context.house().run_dir / f"{lane}.sock" for lane in _LANES]
    there = [path for path in paths if path.exists()]
    if not there:
        return skipped("The worker does not run here; see systemd.active or run: customhouse up")
    deaf = [path.stem for path in paths if not is_listening(path)]
    if deaf:
        return failed(
            f"Nobody listens at the lane {deaf[0]}",
            cause="the worker ended; jobs are accepted and wait",
            fix="customhouse work (or systemctl restart customhouse-worker)",
            deaf=deaf,
        )
    return ok("The worker listens at all lanes", deaf=[])


def _dead(context: Context) -> list[Path]:
    return [
        path for path in sorted(context.house().run_dir.glob("*.sock")) if path.is_socket() and not is_listening(path)
    ]


def _stale(context: Context) -> Outcome:
    found = _dead(context)
    if found:
        return warning(
            f"{len(found)} socket{'s' if len(found) > 1 else ''} of processes that ended",
            cause="a process was killed; the next one clears its own away as it starts",
            fix="customhouse doctor sockets --fix",
            mendable=True,
            dead=len(found),
        )
    return ok("No socket was left behind", dead=0)


def _remove(context: Context) -> str:
    found = _dead(context)
    for path in found:
        path.unlink(missing_ok=True)
    return f"removed {len(found)} dead sockets"


CHECKS = (
    Check("sockets.admin", "The operators' socket", "Whether the API answers at <home>/run/admin.sock.", _admin),
    Check(
        "sockets.inference", "The models' socket", "Whether the model process answers at inference.sock.", _inference
    ),
    Check(
        "sockets.doorbells",
        "The worker's doorbells",
        "Whether a worker listens at each of its three lanes.",
        _doorbells,
    ),
    Check(
        "sockets.stale",
        "Dead sockets",
        "Sockets that nobody holds any more. --fix removes them; a living process keeps its own.",
        _stale,
        mend=_remove,
    ),
)
