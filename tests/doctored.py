"""A machine and a house in which everything is in order, so that a test can break exactly one thing."""

import contextlib
import hashlib
import json
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec

from appliance import backup
from appliance.backup import follow, shelf
from appliance.backup.shelf import Drill
from appliance.doctor import CHECKS, Context
from appliance.doctor.finding import Outcome
from appliance.doctor.nvidia import Card, Driver
from appliance.house import House
from appliance.inference.wire import ModelState, ModelStatus, Status
from appliance.settings import Inference, Server
from tests import tinyonnx
from tests.fakestripe import serving

CARD = Card(0, "NVIDIA H200", 139 << 30, 138 << 30, 41, 90, False, True, 0, True, False)
DRIVER = Driver("580.82", (13, 0), [CARD])
HEALTHY = {"status": "ok", "database": "connected", "queue": "connected", "degraded": []}
UNIT = "LoadState=loaded\nUnitFileState=enabled\nActiveState=active\nSubState=running\nResult=success\nNRestarts=0"
DAY_MS = 86_400_000

_FILES = {
    "proc/sys/kernel/osrelease": "6.8.0-40-generic\n",
    "proc/meminfo": "MemTotal: 33554432 kB\nMemAvailable: 20000000 kB\nSwapTotal: 8000000 kB\nSwapFree: 8000000 kB\n",
    "proc/loadavg": "0.20 0.30 0.40 1/300 1000\n",
    "proc/pressure/memory": "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
    "proc/vmstat": "nr_free_pages 100\noom_kill 0\n",
    "sys/fs/cgroup/pids.max": "max\n",
    "dev/nvidiactl": "",
    "dev/nvidia-uvm": "",
    "dev/nvidia0": "",
}


class Stage:
    """The house, a machine of files under `root`, programs in `bin`. `context` is how all of it looks."""

    def __init__(self, house: House, tmp: Path) -> None:
        self.house = house
        self.tmp = tmp
        self.root = tmp / "machine"
        self.bin = tmp / "bin"
        self.bin.mkdir()
        for name, text in _FILES.items():
            self.file(name, text)
        (self.root / "run/systemd/system").mkdir(parents=True)
        self.mounts("ext4")
        self.program("systemctl", UNIT)
        self.program("timedatectl", "yes")
        self.program("journalctl", "Archived and active journals take up 48.0M in the file system.")
        self.program("systemd-detect-virt", "none")
        self.models_dir = tmp / "models"
        self.weights = tinyonnx.install(house.settings.home, self.models_dir, "tiny")
        (house.settings.home / "categories.toml").write_text(
            "".join(
                f'[{slug}]\nlabel = "{slug}"\ndescription = "{slug}"\nicon = "eye"\n'
                + ("" if slug == "text" else f'[[{slug}.sources]]\nstep = "nsfw"\nmodel = "tiny"\n')
                + ("" if slug == "text" else 'label = "bright"\nthreshold = 0.5\n')
                for slug in ("nsfw", "ai_adult_general", "underage", "text")
            )
        )
        for folder in (house.settings.home, *(path for path in house.settings.home.rglob("*") if path.is_dir())):
            folder.chmod(0o750)
        for path in house.settings.home.rglob("*"):
            if path.is_file():
                path.chmod(path.stat().st_mode & ~stat.S_IRWXO)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.settings = msgspec.structs.replace(
            house.settings,
            models_dir=self.models_dir,
            categories_file=house.settings.home / "categories.toml",
            server=Server(port=self.port, min_free_disk_mb=1),
        )
        self.context = Context(
            self.settings,
            environ={"PATH": str(self.bin), "LC_ALL": "C.UTF-8", "CUSTOMHOUSE_HOME": str(house.settings.home)},
            root=self.root,
            driver=lambda: DRIVER,
        )

    # --- changing it

    def file(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def mounts(self, kind: str, options: str = "rw,relatime") -> None:
        self.file("proc/self/mountinfo", f"1 0 8:1 / / {options} - {kind} /dev/sda1 {options.partition(',')[0]}\n")

    def program(self, name: str, says: str, code: int = 0) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n/bin/cat <<'END'\n{says}\nEND\nexit {code}\n")
        path.chmod(0o755)

    def setting(self, section: str, **values: Any) -> Context:
        changed = msgspec.structs.replace(getattr(self.settings, section), **values)
        return replace(self.context, settings=msgspec.structs.replace(self.settings, **{section: changed}))

    def environ(self, **more: str) -> Context:
        return replace(self.context, environ={**self.context.environ, **more})

    def cards(self, driver: Driver = DRIVER, **changed: Any) -> Context:
        found = replace(driver, cards=[replace(CARD, **changed)]) if changed else driver
        return replace(self.context, driver=lambda: found)

    def sql(self, *statements: str, **bound: Any) -> None:
        self.house.db.write(lambda conn: [conn.execute(one, bound) for one in statements])

    def drop(self, statement: str) -> None:
        self.house.db.write(lambda conn: conn.execute(statement))

    def now_ms(self) -> int:
        return int(self.context.now() * 1000)

    # --- asking it

    def look(self, id: str, context: Context | None = None) -> Outcome:
        return CHECKS[id].look(context or self.context)

    def mend(self, id: str) -> str:
        mend = CHECKS[id].mend
        assert mend is not None
        return mend(self.context)

    # --- what runs

    @contextlib.contextmanager
    def api(self, health: Any = HEALTHY, metrics: str = "") -> Iterator[None]:
        """Something that answers at our port."""

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = metrics.encode() if self.path == "/metrics" else json.dumps(health).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    @contextlib.contextmanager
    def model_process(self, status: Status | None = None, code: int = 200) -> Iterator[None]:
        with self.door(self.settings.inference_socket, msgspec.msgpack.encode(status or self.status()), code):
            yield

    def status(self, pid: int | None = None, **changed: Any) -> Status:
        tiny = {"name": "tiny", "task": "image-classification", "state": ModelState.READY, "device": "cpu"}
        model = ModelStatus(**{**tiny, "wanted_device": "cpu", **changed})
        return Status([model], "cpu", [], 10**8, os.getpid() if pid is None else pid, 12.0)

    @contextlib.contextmanager
    def door(self, path: Path, body: bytes = b"", code: int = 200) -> Iterator[None]:
        """A Unix socket that answers every request the same."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as ear:
            ear.bind(str(path))
            path.chmod(0o660)
            ear.listen()

            def serve() -> None:
                while True:
                    line, _ = ear.accept()
                    with line:
                        if not line.recv(65536):
                            if is_over.is_set():
                                return
                            continue
                        head = f"HTTP/1.1 {code} It\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                        line.sendall(head.encode() + body)

            is_over = threading.Event()
            thread = threading.Thread(target=serve)
            thread.start()
            try:
                yield
            finally:
                is_over.set()
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as last:
                    last.connect(str(path))
                thread.join()
        path.unlink()

    @contextlib.contextmanager
    def doorbells(self, *lanes: str) -> Iterator[None]:
        with contextlib.ExitStack() as held:
            for lane in lanes or ("prompts", "media", "webhooks"):
                ear = held.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
                path = self.settings.run_dir / f"{lane}.sock"
                ear.bind(str(path))
                path.chmod(0o660)
                held.callback(path.unlink)
            yield

    def dead_socket(self, name: str) -> Path:
        path = self.settings.run_dir / name
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
            left.bind(str(path))
        path.chmod(0o660)
        return path

    def stripe(self, key: str = "rk_test_0123456789abcdefghij", mode: int = 0o600, **billing: Any) -> Context:
        path = self.tmp / "stripe-key"
        path.write_text(key + "\n")
        path.chmod(mode)
        return self.setting("billing", stripe_key_file=str(path), **billing)

    @contextlib.contextmanager
    def at_stripe(self, *, refuses: str = "") -> Iterator[Context]:
        with serving() as served:
            if refuses:
                served.fail("403", refuses, times=20)
            yield replace(self.stripe(stripe_address=served.address, stripe_timeout_s=5.0), is_online=True)

    def golden(self, bright: float) -> None:
        case = {"image": "drawn:sky", "scores": {"bright": bright}, "tolerance": 0.02}
        whole = {"made_with": "by hand", "cases": [case]}
        (self.models_dir / "tiny" / "golden.json").write_text(json.dumps(whole))

    def judge(self, *, is_capable: bool) -> Context:
        data = b"a judge's weights"
        folder = self.models_dir / "judge"
        folder.mkdir(exist_ok=True)
        (folder / "manifest.toml").write_text(
            f'name = "judge"\ntitle = "A judge"\ntask = "text-judge"\nruntime = "llama"\nlicence = "MIT"\n'
            f'[[files]]\nname = "judge.gguf"\nsource = "file:judge.gguf"\n'
            f'sha256 = "{hashlib.sha256(data).hexdigest()}"\n'
            f"[judge]\ncapable = {str(is_capable).lower()}\n"
        )
        return self.setting("inference", text_judge="judge")

    def wanting(self, device: str) -> Context:
        changed = msgspec.structs.replace(self.settings, inference=Inference(device=device))
        return replace(self.context, settings=changed)

    def backup(
        self, days: float = 0.5, *, with_pepper: bool = True, is_cut: bool = False, is_damaged: bool = False
    ) -> None:
        """A real one, made so long ago."""
        pepper = self.settings.pepper_file.read_bytes()
        if not with_pepper:
            self.settings.pepper_file.unlink()
        made = backup.create(self.settings)
        self.settings.pepper_file.write_bytes(pepper)
        shelf.note(msgspec.structs.replace(made, made_at_ms=int((time.time() - days * 86_400) * 1000)))
        if is_cut:
            os.truncate(made.path, made.bytes // 2)
        if is_damaged:
            with made.path.open("r+b") as file:
                file.seek(made.bytes // 2)
                file.write(b"damaged")

    def drilled(self, days: float = 1.0, *faults: str) -> None:
        self.backup()
        at = int((time.time() - days * 86_400) * 1000)
        shelf.note_drill(self.settings.backup_folder, Drill(at, "a backup", 2.0, not faults, list(faults)))

    def follows(self, lag_s: float) -> Context:
        at = int(time.time() * 1000)
        self.settings.run_dir.mkdir(exist_ok=True)
        found = follow.Status(os.getpid(), at, "generation-1", 7, at - int(lag_s * 1000), 0, 1)
        follow.status_file(self.settings).write_bytes(msgspec.json.encode(found))
        return self.setting("backup", follow="on", follow_folder="/mnt/other")


Look = Callable[[Stage], Outcome]
