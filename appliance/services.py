"""The three processes as services: one adapter over systemd (of the system or of a user) and over `customhouse up`.

Names are those of the units without what all share: api, worker, inference. As a stop returns it is stopped, and the
socket of the API stays open meanwhile: who connects waits.
"""

import subprocess
from collections.abc import Sequence
from typing import Protocol

from appliance.errors import Misconfigured

API, WORKER, INFERENCE = "api", "worker", "inference"
NAMES = (INFERENCE, API, WORKER)
"""In the order in which they are started."""

_STOP_S = 90.0  # a worker may finish what it has in hand for 25 s, systemd kills after 30
_RUNNING = ("active", "activating", "reloading", "failed")
"""Of a unit that somebody wants to run, even if it does not."""


class Services(Protocol):
    kind: str
    """systemd, systemd --user, customhouse up, none."""

    def start(self, *names: str) -> None: ...
    def stop(self, *names: str) -> None: ...
    def restart(self, *names: str) -> None: ...
    def is_active(self, name: str) -> bool: ...
    def is_meant(self, name: str) -> bool:
        """Whether somebody wants it to run, also when it fails at the moment."""
        ...


class Systemd:
    """Units customhouse-NAME.service. Raises Misconfigured with what systemctl said."""

    def __init__(self, *, user: bool = False, systemctl: Sequence[str] = ("systemctl",)) -> None:
        self.kind = "systemd --user" if user else "systemd"
        self._command = [*systemctl, *(["--user"] if user else [])]

    def start(self, *names: str) -> None:
        # what crashed often is not started any more until its count is cleared
        self._say("reset-failed", *names, may_fail=True)
        self._say("start", *names)

    def stop(self, *names: str) -> None:
        self._say("stop", *names)

    def restart(self, *names: str) -> None:
        self._say("reset-failed", *names, may_fail=True)
        self._say("restart", *names)

    def is_active(self, name: str) -> bool:
        return self._state(name) == "active"

    def is_meant(self, name: str) -> bool:
        return self._state(name) in _RUNNING

    def has_units(self) -> bool:
        """Whether ours are installed here, and systemd answers."""
        try:
            return self._run("cat", "--", _unit(API)).returncode == 0 and self._state(API) != ""
        except (OSError, subprocess.TimeoutExpired):
            return False

    def _state(self, name: str) -> str:
        return self._run("show", "--property=ActiveState", "--value", "--", _unit(name)).stdout.strip()

    def _say(self, verb: str, *names: str, may_fail: bool = False) -> None:
        if not names:
            return
        done = self._run(verb, "--", *(_unit(name) for name in names))
        if done.returncode and not may_fail:
            raise Misconfigured(
                f"systemctl {verb} {' '.join(map(_unit, names))}: {done.stderr.strip() or done.returncode}; "
                f"see: journalctl -u {_unit(names[0])} -n 50"
            )

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._command, *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=_STOP_S,
            stdin=subprocess.DEVNULL,
        )


class Nobody:
    """Nothing runs here, so nothing is stopped or started."""

    kind = "none"

    def start(self, *names: str) -> None: ...
    def stop(self, *names: str) -> None: ...
    def restart(self, *names: str) -> None: ...
    def is_active(self, name: str) -> bool:
        return False

    def is_meant(self, name: str) -> bool:
        return False


def _unit(name: str) -> str:
    return f"customhouse-{name}.service"
