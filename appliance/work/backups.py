"""The worker's part in backups: one is made when it is due, and the continuous copy is kept running.

Both are processes of their own: packing a database is work for minutes, and what it takes of memory goes with it.
"""

import logging
import os
import shutil
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
            [*_bound(is_below=True), *installed.command(), *words],
            env=_environ(self._settings),
            capture_output=True,
            text=True,
            timeout=_MOST_S,
            stdin=subprocess.DEVNULL,
        )
        if ran.returncode != 0:
            log.error("backup not made", extra={"said": ran.stderr.strip()[-500:]})
            raise NotMade("the backup that was due was not made")


def follow(settings: Settings, stop: threading.Event) -> None:
    """Keep the continuous copy running until `stop`, if it is on. To be called in a thread that lives as long."""
    while settings.backup.follow == "on" and not stop.is_set():
        popen = subprocess.Popen(
            [*_bound(is_below=False), *installed.command(), "backup", "follow"],
            env=_environ(settings),
            stdin=subprocess.DEVNULL,
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


def _bound(*, is_below: bool) -> list[str]:
    """What is put before a command so that it ends with us, and stays out of others' way. Programs, not a function in
    the child: a fork of a process with forty threads that goes on in Python may wait for ever for a lock that one of
    them held (seen in a soak on 2026-11-21: the copy stood there with all our descriptors)."""
    tied, below = shutil.which("setpriv"), shutil.which("nice")
    words = [tied, "--pdeathsig", "TERM"] if tied else []
    return [*words, below, "-n", "10"] if is_below and below else words
