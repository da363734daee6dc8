"""The three processes as services: one adapter over systemd (of the system or of a user) and over `customhouse up`.

Names are those of the units without what all share: api, worker, inference. As a stop returns it is stopped, and the
socket of the API stays open meanwhile: who connects waits.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from appliance import durable, supervised
from appliance.errors import InvalidRequest, Misconfigured
from appliance.settings import Settings

API, WORKER, INFERENCE = "api", "worker", "inference"
NAMES = (INFERENCE, API, WORKER)
"""In the order in which they are started."""

_STOP_S = 90.0  # a worker may finish what it has in hand for 25 s, systemd kills after 30
_MEANT = ("active", "activating", "reloading", "failed")
"""Of a unit that somebody wants to run, even if it does not."""


class Services(Protocol):
    kind: str
    """systemd, systemd --user, customhouse up, none."""

    def begin(self) -> None:
        """Everything, for the first time."""
        ...

    def start(self, *names: str) -> None: ...
    def stop(self, *names: str) -> None: ...
    def restart(self, *names: str) -> None: ...
    def is_active(self, name: str) -> bool:
        """It runs, and said that it is ready."""
        ...

    def is_meant(self, name: str) -> bool:
        """Whether somebody wants it to run, also when it fails at the moment."""
        ...

    def take_units(self, folder: Path, instead_of: Path | None = None) -> list[str]:
        """Have the units that a version keeps in this folder, and no more those that only the other one keeps, unless
        somebody changed them. The names of those that are different now."""
        ...


class Systemd:
    """Units customhouse-NAME.service. Raises Misconfigured with what systemctl said."""

    def __init__(self, *, user: bool = False, systemctl: Sequence[str] = ("systemctl",)) -> None:
        self.kind = "systemd --user" if user else "systemd"
        self._command = [*systemctl, *(["--user"] if user else [])]

    def begin(self) -> None:
        self._tell("start", "customhouse.target")

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
        return self._state(name) in _MEANT

    def take_units(self, folder: Path, instead_of: Path | None = None) -> list[str]:
        shown = self._run("show", "--property=FragmentPath", "--value", "--", _unit(API)).stdout.strip()
        kept, former = _files(folder), _files(instead_of)
        if not shown or not kept:
            return []
        place = Path(shown).parent
        there = {name: (place / name).read_bytes() for name in {*kept, *former} if (place / name).is_file()}
        others = [name for name, text in former.items() if name not in kept and there.get(name) == text]
        changed = [name for name, text in kept.items() if there.get(name) != text]
        try:
            for name in others:
                (place / name).unlink()
            for name in changed:
                (place / name).parent.mkdir(exist_ok=True)
                durable.write(place / name, kept[name], 0o644)
        except OSError as error:
            raise Misconfigured(f"{error.filename}: the unit cannot be changed ({error.strerror})") from error
        if changed or others:
            self._tell("daemon-reload")
        return sorted([*changed, *others])

    def has_units_of(self, prefix: Path) -> bool:
        """Whether its units are installed here, and systemd answers."""
        try:
            shown = self._run("cat", "--", _unit(API))
            return shown.returncode == 0 and f"{prefix}/" in shown.stdout and self._state(API) != ""
        except (OSError, subprocess.TimeoutExpired):
            return False

    def _state(self, name: str) -> str:
        return self._run("show", "--property=ActiveState", "--value", "--", _unit(name)).stdout.strip()

    def _say(self, verb: str, *names: str, may_fail: bool = False) -> None:
        if names:
            self._tell(verb, *map(_unit, names), may_fail=may_fail)

    def _tell(self, verb: str, *units: str, may_fail: bool = False) -> None:
        done = self._run(verb, *(("--", *units) if units else ()))
        if done.returncode and not may_fail:
            see = f"; see: journalctl -u {units[0]} -n 50" if units else ""
            raise Misconfigured(f"systemctl {' '.join((verb, *units))}: {done.stderr.strip() or done.returncode}{see}")

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._command, *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=_STOP_S,
            stdin=subprocess.DEVNULL,
        )


class Supervised:
    """The processes of a running `customhouse up`. Raises Misconfigured with what it said."""

    kind = "customhouse up"

    def __init__(self, run_dir: Path, within_s: float = 0.0) -> None:
        self._run_dir = run_dir
        self._within_s = within_s

    def begin(self) -> None:
        """They were begun by it."""

    def start(self, *names: str) -> None:
        self._ask("start", *names)

    def stop(self, *names: str) -> None:
        self._ask("stop", *names)

    def restart(self, *names: str) -> None:
        self._ask("restart", *names)

    def is_active(self, name: str) -> bool:
        return any(one.name == name and one.is_running and one.is_ready for one in self._ask("status", name))

    def is_meant(self, name: str) -> bool:
        return any(one.name == name and one.is_wanted for one in self._ask("status", name))

    def take_units(self, folder: Path, instead_of: Path | None = None) -> list[str]:
        return []  # it has none

    def _ask(self, verb: str, *names: str) -> list[supervised.State]:
        if not names:
            return []  # to it, no name is every name
        try:
            return supervised.ask(self._run_dir, verb, *names, within_s=self._within_s)
        except InvalidRequest as error:
            raise Misconfigured(error.message) from error


class Nobody:
    """Nothing runs here, so nothing is stopped or started."""

    kind = "none"

    def begin(self) -> None: ...
    def start(self, *names: str) -> None: ...
    def stop(self, *names: str) -> None: ...
    def restart(self, *names: str) -> None: ...
    def is_active(self, name: str) -> bool:
        return False

    def is_meant(self, name: str) -> bool:
        return False

    def take_units(self, folder: Path, instead_of: Path | None = None) -> list[str]:
        return []


def of(settings: Settings, prefix: Path, within_s: float = 0.0) -> Services:
    """Whoever runs the processes of this state directory and this PREFIX. What is started there has to be ready within
    so many seconds, where it is not systemd, whose units say so themselves."""
    if supervised.is_up(settings.run_dir):
        return Supervised(settings.run_dir, within_s)
    for found in (Systemd(), Systemd(user=True)):
        if found.has_units_of(prefix):
            return found
    return Nobody()


def _files(folder: Path | None) -> dict[str, bytes]:
    """Path below the folder → content."""
    if folder is None or not folder.is_dir():
        return {}
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _unit(name: str) -> str:
    return f"customhouse-{name}.service"
