"""A whole Customhouse in a scratch folder, with the operator's weights, for a benchmark to drive."""

import contextlib
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path

import httpx
import msgspec

from appliance import audit
from appliance import settings as settings_file
from appliance.accounts import keys, organisations
from appliance.accounts.organisations import Changes
from appliance.database import Connection
from appliance.errors import CustomhouseError
from appliance.house import House
from appliance.settings import Settings
from appliance.supervisor import Supervisor

_START_S = 120.0

ONE_MODEL = """
[nsfw]
label = "NSFW"
description = "One model only: the benchmark compares with a bare loop of it."
icon = "eye-off"
[[nsfw.sources]]
step = "nsfw"
model = "opennsfw"
label = "nsfw"
threshold = 0.5
[ai_adult_general]
label = "AI Adult General"
description = "Off; it names a model only so that health finds every step answered."
icon = "flame"
[[ai_adult_general.sources]]
step = "vlm"
model = "opennsfw"
label = "nsfw"
threshold = 0.5
[underage]
label = "Underage"
description = "Off."
icon = "baby"
[text]
label = "Text"
description = "Blocklist and prohibition check."
icon = "message-square"
[[text.sources]]
step = "text"
model = "text-heads"
label = "prohibited"
threshold = 0.5
"""


class Rig(msgspec.Struct):
    settings: Settings
    house: House
    address: str
    key: str
    supervisor: Supervisor

    def peak_mb(self) -> dict[str, float]:
        """The most memory that each process and its children have held so far (VmHWM), in MB."""
        return {name: peak_mb(pid) for name, pid in self.supervisor.pids.items()}


@contextlib.contextmanager
def scratch(base: Settings, *, is_one_model: bool = False) -> Generator[Settings]:
    """Settings of an empty state directory that shares the weights of `base`; removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="customhouse-bench-") as folder:
        home = Path(folder)
        base.weights_dir.mkdir(parents=True, exist_ok=True)
        (home / "weights").symlink_to(base.weights_dir.resolve())
        environ = {key: value for key, value in os.environ.items() if key != "CUSTOMHOUSE_CONFIG"}
        if is_one_model:
            (home / "categories.toml").write_text(ONE_MODEL)
            environ["CUSTOMHOUSE_CATEGORIES_FILE"] = str(home / "categories.toml")
        yield settings_file.load(environ={**environ, "CUSTOMHOUSE_HOME": str(home)})


@contextlib.contextmanager
def running(base: Settings, *, is_one_model: bool = False, also: Mapping[str, str] | None = None) -> Generator[Rig]:
    """All three processes, ready, with `also` in their environment. Raises CustomhouseError when they do not become
    so."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with scratch(base, is_one_model=is_one_model) as settings:
        house = House(settings)
        key = house.db.write(lambda conn: _key(conn, house.pepper))
        environ = {
            "CUSTOMHOUSE_SERVER_PORT": str(port),
            "CUSTOMHOUSE_LOG_LEVEL": "error",
            "CUSTOMHOUSE_CATEGORIES_FILE": str(settings.categories_file),
            **(also or {}),
        }
        at_port = msgspec.structs.replace(settings, server=msgspec.structs.replace(settings.server, port=port))
        supervisor = Supervisor(at_port, environ)
        try:
            supervisor.start()
            watcher = threading.Thread(target=supervisor.watch, daemon=True)
            watcher.start()
            address = f"http://127.0.0.1:{port}"
            _wait(address, watcher)
            yield Rig(settings, house, address, key, supervisor)
        finally:
            supervisor.stop()
            house.close()


def _key(conn: Connection, pepper: bytes) -> str:
    """Of an organisation that may ask as often as the bench does; it is counted like any other."""
    org_id = organisations.get_or_create(conn, "bench").id
    often = Changes(requests_per_minute=1_000_000)
    organisations.change(conn, org_id, often, actor=audit.operator(), reason="a benchmark")
    return keys.create(conn, pepper, org_id, "bench")[1]


def _wait(address: str, watcher: threading.Thread) -> None:
    until = time.monotonic() + _START_S
    last = "nothing"
    while time.monotonic() < until and watcher.is_alive():
        with contextlib.suppress(httpx.HTTPError):
            answer = httpx.get(f"{address}/health", timeout=2)
            if answer.status_code == 200:
                return
            last = answer.text
        time.sleep(0.1)
    raise CustomhouseError(f"the benchmark's processes did not become ready; health said {last[:500]}")


def in_parallel(clients: int, each: Callable[[int], None]) -> float:
    """Run `each(n)` in so many threads at once; returns the seconds from the first start to the last end."""
    threads = [threading.Thread(target=each, args=(n,)) for n in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start


def peak_mb(pid: int, *, is_reset: bool = False) -> float:
    """The most memory that a process and its children have held so far, in MB; then begin anew with `is_reset`."""
    all_of_it = family(pid)
    peak = round(sum(_peak_kb(one) for one in all_of_it) / 1000, 1)
    if is_reset:
        for one in all_of_it:
            with contextlib.suppress(OSError):
                Path(f"/proc/{one}/clear_refs").write_text("5")
    return peak


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of them lie; nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def family(pid: int) -> list[int]:
    """The process and everything that it started."""
    found = [pid]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1]) == pid:
                    found.extend(family(int(entry.name)))
    return found


def _peak_kb(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0
