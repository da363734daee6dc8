"""Faults that need a disk of their own: `python -m tests.faults.confined FOLDER SEED` in a user and mount namespace,
where FOLDER/home is a small tmpfs. It fills up, turns read-only, processes start while it is so. A line a fault."""

import contextlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from appliance.database import Database
from tests.faults.box import Box
from tests.faults.report import Record

_SIZE = "40m"
_IN_NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")


def run(folder: Path, seed: int) -> list[Record]:
    """All of it, from outside. Raises PermissionError where no namespace can be had."""
    if shutil.which("unshare") is None:
        raise PermissionError("there is no unshare")
    home = folder / "home"
    home.mkdir(parents=True)
    may = subprocess.run(
        [*_IN_NAMESPACE, "mount", "-t", "tmpfs", "-o", "size=1m", "none", str(home)],
        check=False,
        capture_output=True,
        text=True,
    )
    if may.returncode:
        raise PermissionError(may.stderr.strip())
    done = subprocess.run(
        [*_IN_NAMESPACE, sys.executable, "-m", "tests.faults.confined", str(folder), str(seed)],
        check=False,
        capture_output=True,
        text=True,
        timeout=1_200,
    )
    records = [msgspec.json.decode(line, type=Record) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not records:
        wrong = {"broke off": [f"with {done.returncode}: {done.stderr[-1500:]}"]}
        records.append(Record("disk full", "in a namespace", wrong, repeat=f"--seed {seed} --scenario 'disk full'"))
    return records


class Disk:
    """The small one."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._ballast = home / "ballast"

    def fill(self) -> None:
        """Not a byte is left."""
        with self._ballast.open("ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass

    def empty(self) -> None:
        self._ballast.unlink()

    def remount(self, how: str) -> str:
        """Why not; empty when it was."""
        done = subprocess.run(
            ["mount", "-o", f"remount,{how}", str(self.home)], check=False, capture_output=True, text=True
        )
        return done.stderr if done.returncode else ""


def full(box: Box, disk: Disk, rng: random.Random) -> None:
    """Callers hear 503 and when to come again, health says it, and nothing that was accepted is lost."""
    before = box.answers["503"]
    disk.fill()
    box.says("nothing is accepted below")
    box.until("a caller hears 503", lambda: box.answers["503"] > before)
    time.sleep(rng.uniform(0.5, 1.5))
    disk.empty()


def full_at_start(box: Box, disk: Disk, rng: random.Random) -> None:
    """All are killed, and start again and again on a disk without a byte left."""
    disk.fill()
    box.infer.kill()
    for what in ("work", "serve"):
        box.send(what)
    time.sleep(rng.uniform(2.0, 4.0))
    disk.empty()


def read_only(box: Box, disk: Disk, _: random.Random) -> None:
    """As a file system turns when its disk fails. What starts on it says so in a sentence, and does not stay."""
    with box.away("infer"), box.away("work"), box.away("serve"):
        box.house.db.reader().close()
        box.house.close()
        box.house.db = Database(box.house.settings.database)  # opens it when it is asked
        box.until("nobody writes there any more", lambda: not disk.remount("ro"))
        try:
            started = subprocess.run(
                [sys.executable, "-m", "appliance", "work"],
                env={**os.environ, **box.environ},
                check=False,
                capture_output=True,
                text=True,
                timeout=300,
            )
            assert started.returncode == 1, started
            assert "read-only" in started.stderr.lower(), started.stderr
            assert "Traceback" not in started.stderr, started.stderr
        finally:
            disk.remount("rw")


FAULTS: dict[str, Callable[[Box, Disk, random.Random], None]] = {
    "disk full": full,
    "disk full at start": full_at_start,
    "disk read-only": read_only,
}


def _main() -> int:
    folder, seed = Path(sys.argv[1]), int(sys.argv[2])
    home = folder / "home"
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "none", str(home)], check=True)
    box = Box(folder, None)
    disk = Disk(home)
    rng = random.Random(seed)
    box.until("some are accepted", lambda: box.answers["202"] > 4)
    for kind in ("disk full", "disk full at start", "disk full", "disk read-only"):
        begun = time.monotonic()
        wrong: dict[str, list[str]] = {}
        try:
            FAULTS[kind](box, disk, rng)
        except (TimeoutError, AssertionError) as error:
            wrong["expected"] = [str(error)]
        wrong |= box.settle()
        took_s = time.monotonic() - begun
        again = f"--seed {seed} --scenario 'disk full'"
        print(msgspec.json.encode(Record(kind, "tmpfs in a namespace", wrong, took_s, again)).decode(), flush=True)
    if unknown := box.unknown_jobs():
        wrong = {"jobs that nobody was told of": unknown}
        print(msgspec.json.encode(Record("disk full", "at the end", wrong)).decode(), flush=True)
    box.close()
    return 0


if __name__ == "__main__":
    sys.exit(_main())
