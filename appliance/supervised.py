"""What runs under `customhouse up`, asked over its control socket, <run_dir>/up.sock: one line of JSON each way.

The same names as the units have: api, worker, inference.
"""

import contextlib
import socket
from pathlib import Path

import msgspec

from appliance.errors import InvalidRequest, Misconfigured

NAMES = ("inference", "worker", "api")
"""In the order in which they are started, and restarted."""

_PATIENCE_S = 300.0  # a stop may take 35 s, and models their time to load
_LINE_BYTES = 65_536


class State(msgspec.Struct, frozen=True):
    name: str
    pid: int
    is_running: bool
    is_ready: bool
    """It said so, since it was started."""
    is_wanted: bool
    """False: it was stopped, and stays so until it is started."""
    starts: int
    """How often it was started, the first time included."""
    status: str = ""
    """Its own words."""


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    verb: str
    names: tuple[str, ...] = ()
    within_s: float = 0.0
    """It has to be so; 0 = as the supervisor thinks fit."""


class Told(msgspec.Struct, frozen=True):
    states: list[State] = []
    error: str = ""


class NotUp(Misconfigured):
    """Nobody listens: `customhouse up` does not run for this state directory."""


def path_in(run_dir: Path) -> Path:
    return run_dir / "up.sock"


def is_up(run_dir: Path) -> bool:
    with contextlib.suppress(NotUp):
        return bool(ask(run_dir, "status"))
    return False


def ask(run_dir: Path, verb: str, *names: str, within_s: float = 0.0) -> list[State]:
    """Have `names` (none: all) restarted, stopped or started, and wait until it is so; status only tells. A restart
    returns when the new process has said that it is ready. Raises NotUp, and InvalidRequest with what went wrong."""
    path = path_in(run_dir)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(_PATIENCE_S)
        try:
            line.connect(str(path))
        except PermissionError as error:
            raise NotUp(f"{path}: you may not open it; ask who runs customhouse up") from error
        except OSError as error:
            raise NotUp(f"customhouse up does not run for {run_dir.parent}") from error
        try:
            line.sendall(msgspec.json.encode(Asked(verb, names, within_s)) + b"\n")
            with line.makefile("rb") as answer:
                told = msgspec.json.decode(answer.readline(_LINE_BYTES), type=Told)
        except (OSError, msgspec.MsgspecError) as error:
            raise NotUp("customhouse up ended while it was asked") from error
    if told.error:
        raise InvalidRequest(told.error)
    return told.states
