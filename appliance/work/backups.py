"""The worker's part in backups: one is made when it is due, and the continuous copy is kept running.

Both are processes of their own: packing a database is work for minutes, and what it takes of memory goes with it.
"""

import contextlib
import ctypes
import logging
import os
import signal
import subprocess
import threading

from appliance import installed
from appliance.errors import CustomhouseError
from appliance.settings import Settings

log = logging.getLogger(__name__)

LOOK_S = 600.0
"""How often it is looked whether a backup is due."""
_MOST_S = 6 * 3600.0
_AGAIN_S = 5.0
_PR_SET_PDEATHSIG = 1


class NotMade(CustomhouseError):
    """The backup that was due was not made; what it said is in the log."""


class Due:
    """A backup, when the newest is older than backup.every_hours."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def once(self) -> None:
        """Raises NotMade."""
        if self._settings.backup.every_hours == 0:
            return
        words = ["backup", "create", "--if-due", "--why", "schedule", "--json"]
        ran = subprocess.run(
            [*installed.command(), *words],
            env=_environ(self._settings),
            capture_output=True,
            text=True,
            timeout=_MOST_S,
            stdin=subprocess.DEVNULL,
            preexec_fn=_below_others,
        )
        if ran.returncode != 0:
            log.error("backup not made", extra={"said": ran.stderr.strip()[-500:]})
            raise NotMade("the backup that was due was not made")


def follow(settings: Settings, stop: threading.Event) -> None:
    """Keep the continuous copy running until `stop`, if it is on. To be called in a thread that lives as long."""
    while settings.backup.follow == "on" and not stop.is_set():
        popen = subprocess.Popen(
            [*installed.command(), "backup", "follow"],
            env=_environ(settings),
            stdin=subprocess.DEVNULL,
            preexec_fn=_die_with_parent,
        )
        while popen.poll() is None and not stop.wait(0.5):
            pass
        if popen.poll() is None:
            popen.send_signal(signal.SIGTERM)
            try:
                popen.wait(10)
            except subprocess.TimeoutExpired:
                popen.kill()
                popen.wait()
            return
        log.warning("the continuous copy ended; it is started again", extra={"code": popen.returncode})
        stop.wait(_AGAIN_S)


def _environ(settings: Settings) -> dict[str, str]:
    return {**os.environ, "CUSTOMHOUSE_HOME": str(settings.home)}


_libc = ctypes.CDLL(None)


def _below_others() -> None:
    _die_with_parent()
    with contextlib.suppress(OSError):  # the unit's system call filter may refuse it
        os.nice(10)


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
