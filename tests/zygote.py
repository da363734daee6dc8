"""Customhouse's processes, started in a fraction of a second: `python -m tests.zygote` imports everything once, then
forks one for each line that it reads ("work" or "serve") and answers with its pid.

What runs in a fork is the process's own `main`: its settings, connections, threads and children are its own. Only what
was imported, and the language model, is there already; importing it anew costs a second and a half of a core each time.
"""

import contextlib
import ctypes
import faulthandler
import os
import select
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_START_S = 240.0


class Zygote:
    """The one that forks. Close it: its forks die with it."""

    def __init__(self, environ: Mapping[str, str], log: Path) -> None:
        with log.open("ab") as file:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", "tests.zygote"],
                env={**os.environ, **environ},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
            )
        self._asking = threading.Lock()

    def start(self, what: str) -> "Fork":
        """A new process. Raises RuntimeError when the zygote is gone; its log says why."""
        with self._asking:
            assert self._popen.stdin is not None
            assert self._popen.stdout is not None
            self._popen.stdin.write(f"{what}\n".encode())
            self._popen.stdin.flush()
            ready, _, _ = select.select([self._popen.stdout], [], [], _START_S)
            answer = self._popen.stdout.readline() if ready else b""
        if not answer.strip().isdigit():
            raise RuntimeError("the zygote did not fork; see its log")
        return Fork(int(answer))

    def close(self) -> None:
        self._popen.kill()
        self._popen.communicate()


class Fork:
    """One process, held by a descriptor: its number may be somebody else's by the time one looks."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        try:
            self._held = os.pidfd_open(pid)
        except ProcessLookupError:
            self._held = -1

    @property
    def is_alive(self) -> bool:
        """Whether any of its threads is: the first may be gone while others still hold the process's locks."""
        return self._held >= 0 and not select.select([self._held], [], [], 0)[0]

    def signal(self, number: int) -> None:
        if self._held >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._held, number)

    def close(self) -> None:
        if self._held >= 0:
            os.close(self._held)
            self._held = -1


def _run(what: str) -> int:
    from appliance import log, settings
    from appliance.api import server
    from appliance.work import process

    faulthandler.enable()
    faulthandler.register(signal.SIGUSR2, all_threads=True)  # where each thread is, into the log
    loaded = settings.load()
    log.configure(loaded.log)
    return process.main(loaded) if what == "work" else server.main(loaded)


def _bury(*_: object) -> None:
    """Reap what has ended, and say so unless it was killed."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        code = os.waitstatus_to_exitcode(status)
        if code != -signal.SIGKILL:
            print(f"process {pid} ended by itself: {code}", file=sys.stderr, flush=True)


def _main() -> None:
    import appliance.api.app
    import appliance.api.server
    import appliance.work.process  # noqa: F401  # imported for the forks
    from appliance.text import language

    language.detect("read the language model once for all of them")
    signal.signal(signal.SIGCHLD, _bury)
    libc = ctypes.CDLL(None)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # means the forks
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(2, 1)
            code = 70
            try:
                code = _run(line.strip())
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        print(pid, flush=True)


if __name__ == "__main__":
    _main()
