"""Every check in both states: all is in order, and exactly one thing is broken."""

import contextlib
import os
import resource
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.billing import ledger
from appliance.billing.ledger import EntryType
from appliance.doctor import CHECKS
from appliance.doctor.checks import (
    clock,
    database,
    disk,
    egress,
    gpu,
    host,
    memory,
    permissions,
    python,
    releases,
    sqlite,
    tls,
)
from appliance.doctor.context import make
from appliance.doctor.finding import Outcome, State
from appliance.doctor.nvidia import Driver
from appliance.house import House
from appliance.release import journal, shelf
from appliance.release.journal import Journal
from appliance.settings import FOR_EVER_DAYS
from tests import made
from tests.cast import enrol
from tests.doctored import DAY_MS, DRIVER, HEALTHY, UNIT, Stage

OK, WARNING, FAILED = State.OK, State.WARNING, State.FAILED
RIGHT = {"device": "cuda:0", "providers": ["CUDAExecutionProvider"], "shortfall": "", "open_ms": 300.0, "run_ms": 0.1}
RIGHT["is_right"] = True
CUT_OFF = Journal("activate", "0.2.0", "0.1.0", step="migrate")
ON_CPU = {**RIGHT, "device": "cpu", "providers": ["CPUExecutionProvider"], "shortfall": "no library"}


@pytest.fixture
def stage(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr("stripe.HTTPClient.INITIAL_DELAY", 0.001)
    return Stage(house, tmp_path)


# --- how one thing is broken ------------------------------------------------------------------------------------------


def reading(name: str, text: str) -> Callable[[Stage, str], Outcome]:
    """With a file of the machine's that says this."""

    def look(stage: Stage, id: str) -> Outcome:
        stage.file(name, text)
        return stage.look(id)

    return look


def program(name: str, says: str) -> Callable[[Stage, str], Outcome]:
    def look(stage: Stage, id: str) -> Outcome:
        stage.program(name, says)
        return stage.look(id)

    return look


def with_(change: Callable[[Stage], Any]) -> Callable[[Stage, str], Outcome]:
    """`change` either breaks something on disk, or answers with the context to look in."""

    def look(stage: Stage, id: str) -> Outcome:
        changed = change(stage)
        return stage.look(id, changed if hasattr(changed, "environ") else None)

    return look


def during(hold: Callable[[Stage], contextlib.AbstractContextManager[Any]]) -> Callable[[Stage, str], Outcome]:
    """While something runs."""

    def look(stage: Stage, id: str) -> Outcome:
        with hold(stage) as context:
            return stage.look(id, context)

    return look


def judged(outcome: Callable[[], Outcome]) -> Callable[[Stage, str], Outcome]:
    """What is said of a measurement that cannot be had here: an old Python, a full disk, a GPU."""
    return lambda stage, id: outcome()


def loose(place: Callable[[Stage], Path], bits: int) -> Callable[[Stage, str], Outcome]:
    def look(stage: Stage, id: str) -> Outcome:
        path = place(stage)
        path.chmod(path.stat().st_mode | bits)
        if id not in ("permissions.home", "permissions.secrets"):
            for folder in (stage.settings.home, *path.parents):
                if folder == stage.settings.home or stage.settings.home in folder.parents:
                    folder.chmod(0o755)  # or nobody could get there
        return stage.look(id)

    return look


def _limit(what: int, most: int) -> Callable[[Stage, str], Outcome]:
    """In a child, so that our own limit stays."""

    def look(stage: Stage, id: str) -> Outcome:
        script = (
            "import resource, sys\nfrom appliance.doctor import CHECKS\nfrom appliance.doctor.context import Context\n"
            f"resource.setrlimit({what}, ({most}, {most}))\n"
            f"found = CHECKS[{id!r}].look(Context(None))\n"
            "print(found.state, found.says, found.cause, found.fix, sep='|')"
        )
        ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=made_in())
        state, says, cause, fix = ran.stdout.strip().split("|", 3)
        return Outcome(State(state), says, {"most": most}, cause, fix)

    return look


def made_in() -> Path:
    return Path(__file__).resolve().parent.parent


def _damaged(stage: Stage) -> Any:
    """A copy of the database with a page overwritten."""
    home = stage.tmp / "damaged"
    home.mkdir()
    data = bytearray(_whole(stage))
    data[4096 * 3 : 4096 * 4] = b"\xff" * 4096
    (home / "customhouse.db").write_bytes(data)
    return replace(stage.context, settings=msgspec.structs.replace(stage.settings, home=home))


def _whole(stage: Stage) -> bytes:
    from appliance import database as files

    assert files.empty_log(stage.settings.database, 5)
    return stage.settings.database.read_bytes()


def _unguarded(stage: Stage) -> None:
    stage.drop("DROP TRIGGER audit_only_inserted")


def _jobs(stage: Stage, count: int = 1, **given: Any) -> None:
    person = enrol(stage.house, "A", f"key-{count}")
    made.insert(stage.house, [made.job(person.org_id, stage.now_ms(), **given) for _ in range(count)])


def _child(stage: Stage, **given: Any) -> None:
    _jobs(stage, status="processing", completed_at=None)
    stage.sql(
        "INSERT INTO child (job_id, kind, status, lease_until, created_at) "
        "SELECT id, 'TEXT_MODERATION', 'processing', :until, 0 FROM job",
        until=given.get("until", 1),
    )


def _old_job(stage: Stage) -> None:
    person = enrol(stage.house, "A", "old")
    at = stage.now_ms() - 3_600_000
    made.insert(stage.house, [made.job(person.org_id, at, status="queued", completed_at=None)])


def _deliveries(stage: Stage, status: str, count: int, at: int) -> None:
    _jobs(stage, count)
    stage.sql(
        "INSERT INTO delivery (id, org_id, job_id, url, is_global, body, status, next_at, created_at, finished_at) "
        "SELECT 'wh_' || id, org_id, id, 'https://example.org', 1, '{}', :status, :at, :at, "
        "iif(:status = 'pending', NULL, :at) FROM job",
        status=status,
        at=at,
    )


def _endpoint(stage: Stage, url: str, disabled_at: int | None = None) -> None:
    person = enrol(stage.house, "A", "hook")
    stage.sql(
        "INSERT INTO webhook_endpoint (org_id, url, disabled_at, created_at, updated_at) "
        "VALUES (:org, :url, :off, 0, 0)",
        org=person.org_id,
        url=url,
        off=disabled_at,
    )


def _secret(stage: Stage, age_ms: int) -> None:
    person = enrol(stage.house, "A", "sign")
    stage.sql(
        "INSERT INTO webhook_secret (org_id, secret, created_at) VALUES (:org, 'whsec_x', :at)",
        org=person.org_id,
        at=stage.now_ms() - age_ms,
    )


def _credit(stage: Stage, micros: int = 5) -> None:
    person = enrol(stage.house, "A", "money")
    stage.house.db.write(
        lambda conn: ledger.post(
            conn, person.org_id, EntryType.CREDIT, micros, source=("manual", "1"), description="", now=1
        )
    )


def _broken_ledger(stage: Stage) -> None:
    _credit(stage)
    stage.drop("DROP TRIGGER ledger_not_changed")
    stage.drop("UPDATE ledger SET balance_micros = 7")


def _synced(stage: Stage, age_s: float) -> Any:
    stage.sql(
        "INSERT INTO stripe_sync (is_live, cursor_at, looked_back_at, last_ok_at) VALUES (0, 0, 0, :at)",
        at=stage.now_ms() - int(age_s * 1000),
    )
    return stage.stripe()


@contextlib.contextmanager
def _writing(stage: Stage) -> Iterator[None]:
    """Another process holds the write lock."""
    from appliance.database import connect

    conn = connect(stage.settings.database)
    conn.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        conn.execute("ROLLBACK")
        conn.close()


@contextlib.contextmanager
def _worker(stage: Stage) -> Iterator[None]:
    """Somebody holds the worker's lock."""
    import fcntl

    with (stage.settings.run_dir / "worker.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _listening(stage: Stage) -> Iterator[None]:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", stage.port))
        other.listen()
        yield


def _alone(says: str) -> Callable[[Stage, str], Outcome]:
    """A real process, with or without a socket of the network."""

    def look(stage: Stage, id: str) -> Outcome:
        script = f"import socket, sys\n{says}\nprint('up', flush=True)\nsys.stdin.read()"
        with subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1) as child:
            assert child.stdout is not None
            assert child.stdin is not None
            assert child.stdout.readline() == b"up\n"
            outcome = egress.without_network(replace(stage.context, root=Path("/")), child.pid)
            child.stdin.close()
        return outcome

    return look


def _laid(change: Callable[[Path], object] | None = None) -> Callable[[Stage, str], Outcome]:
    """Under a prefix with one version, which is current."""

    def look(stage: Stage, id: str) -> Outcome:
        prefix = stage.tmp / "prefix"
        python = prefix / "versions/0.1.0/venv/bin/python"
        python.parent.mkdir(parents=True)
        python.touch()
        shelf.point(prefix, "0.1.0")
        if change is not None:
            change(prefix)
        return {"releases.unfinished": releases.unfinished, "releases.links": releases.links}[id](prefix)

    return look


def _certificate(days: int) -> Callable[[Stage, str], Outcome]:
    """A real certificate, served on the loopback."""

    def look(stage: Stage, id: str) -> Outcome:
        cert, key = stage.tmp / "cert.pem", stage.tmp / "key.pem"
        made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert]
        about = ["-days", str(days), "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        subprocess.run([*made, *about], check=True, capture_output=True)
        serves = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        serves.load_cert_chain(cert, key)
        with socket.create_server(("127.0.0.1", 0)) as ear:

            def answer() -> None:
                line, _ = ear.accept()
                with contextlib.suppress(ssl.SSLError, OSError), serves.wrap_socket(line, server_side=True) as held:
                    held.recv(1)
                line.close()

            thread = threading.Thread(target=answer)
            thread.start()
            trusting = ssl.create_default_context(cafile=str(cert))
            outcome = tls.certificate(stage.context, "127.0.0.1", ear.getsockname()[1], "localhost", trusting)
            thread.join()
        return outcome

    return look


def _plain(stage: Stage, id: str) -> Outcome:
    """As the stage is."""
    return stage.look(id)


Case = tuple[Callable[[Stage, str], Outcome], Callable[[Stage, str], Outcome], State]


CASES: dict[str, Case] = {
    # id: (all is in order, one thing is broken, what it then is)
    "host.kernel": (_plain, reading("proc/sys/kernel/osrelease", "5.4.0-1\n"), WARNING),
    "host.cores": (_plain, reading("sys/fs/cgroup/cpu.max", "100000 100000\n"), WARNING),
    "host.memory": (_plain, reading("sys/fs/cgroup/memory.max", "1000000000\n"), WARNING),
    "host.swap": (_plain, reading("proc/meminfo", "MemTotal: 8000 kB\nSwapTotal: 9000 kB\nSwapFree: 0 kB\n"), WARNING),
    "host.load": (_plain, reading("proc/loadavg", "9 999.5 9 1/300 1\n"), WARNING),
    "host.virtualisation": (_plain, program("systemd-detect-virt", "wsl"), WARNING),
    "host.locale": (_plain, with_(lambda s: s.environ(LC_ALL="POSIX")), WARNING),
    "host.files": (
        with_(lambda s: s.setting("server", max_connections=16)),
        _limit(resource.RLIMIT_NOFILE, 256),
        WARNING,
    ),
    "host.tasks": (_plain, reading("sys/fs/cgroup/pids.max", "100\n"), WARNING),
    "host.sandbox": (judged(lambda: host.sandbox(True, True)), judged(lambda: host.sandbox(False, True)), WARNING),
    "python.version": (
        judged(lambda: python.version_is((3, 12, 1))),
        judged(lambda: python.version_is((3, 9, 2))),
        FAILED,
    ),
    "python.packages": (
        judged(lambda: python.packages_are({"click": python.installed("click") or ""}, is_early=False)),
        judged(lambda: python.packages_are({"click": "0.1"}, is_early=False)),
        WARNING,
    ),
    "python.imports": (
        lambda s, id: python.importable(replace(s.context, environ=dict(os.environ)), ("json",)),
        lambda s, id: python.importable(replace(s.context, environ=dict(os.environ)), ("json", "no_such_package")),
        FAILED,
    ),
    "python.openssl": (
        judged(lambda: python.openssl_is((3, 0, 2))),
        judged(lambda: python.openssl_is((1, 1, 1))),
        WARNING,
    ),
    "python.authorities": (
        judged(lambda: python.authorities_are(140, ssl.get_default_verify_paths())),
        judged(lambda: python.authorities_are(0, ssl.get_default_verify_paths()._replace(capath=None))),
        FAILED,
    ),
    "python.environment": (_plain, with_(lambda s: s.environ(PYTHONPATH="/elsewhere")), WARNING),
    "sqlite.version": (_plain, judged(lambda: sqlite.version_is((3, 40, 1))), FAILED),
    "sqlite.wal": (_plain, judged(lambda: sqlite.no_wal("", "delete")), FAILED),
    "sqlite.fsync": (
        judged(lambda: sqlite.fsync_is([0.5, 0.6, 2])),
        judged(lambda: sqlite.fsync_is([30, 40, 90])),
        WARNING,
    ),
    "sqlite.filesystem": (_plain, with_(lambda s: s.mounts("nfs4")), FAILED),
    "disk.home": (_plain, lambda s, id: disk.room(s.tmp, 10**12), FAILED),
    "disk.inodes": (_plain, judged(lambda: disk.inodes(1000, 3)), WARNING),
    "disk.media": (_plain, with_(lambda s: s.settings.media_dir.rmdir()), WARNING),
    "disk.weights": (_plain, with_(lambda s: _enormous(s)), FAILED),
    "disk.temporary": (_plain, lambda s, id: disk.temporary(s.tmp / "nowhere"), FAILED),
    "disk.writable": (_plain, with_(lambda s: s.mounts("ext4", "ro,relatime")), FAILED),
    "disk.leftovers": (_plain, with_(lambda s: _leftover(s)), WARNING),
    "clock.synchronised": (_plain, program("timedatectl", "no"), WARNING),
    "clock.steady": (judged(lambda: clock.is_steady(0.2)), judged(lambda: clock.is_steady(-900.0)), WARNING),
    "clock.past": (_plain, with_(lambda s: replace(s.context, now=lambda: 1_000_000.0)), WARNING),
    "clock.plausible": (_plain, with_(lambda s: replace(s.context, now=lambda: 1_000_000.0)), WARNING),
    "ports.port": (_plain, during(_listening), FAILED),
    "ports.health": (
        during(lambda s: s.api()),
        during(lambda s: s.api({**HEALTHY, "status": "degraded", "degraded": ["No worker is running"]})),
        WARNING,
    ),
    "ports.reach": (_plain, with_(lambda s: s.setting("server", host="0.0.0.0")), WARNING),
    "permissions.home": (_plain, loose(lambda s: s.settings.home, 0o005), FAILED),
    "permissions.database": (_plain, loose(lambda s: s.settings.database, 0o004), FAILED),
    "permissions.secrets": (_plain, loose(lambda s: s.settings.pepper_file, 0o040), FAILED),
    "permissions.sockets": (
        during(lambda s: s.doorbells()),
        loose(lambda s: s.dead_socket("admin.sock"), 0o007),
        FAILED,
    ),
    "permissions.config": (
        with_(lambda s: (s.settings.home / "customhouse.toml").write_text("")),
        loose(lambda s: _touch(s.settings.home / "customhouse.toml"), 0o002),
        FAILED,
    ),
    "permissions.media": (_plain, loose(lambda s: _touch(s.settings.media_dir / "upload"), 0o004), FAILED),
    "permissions.weights": (_plain, loose(lambda s: s.weights, 0o002), FAILED),
    "permissions.owners": (
        _plain,
        lambda s, id: permissions.owners(s.settings.home, {s.settings.database: 4242}),
        FAILED,
    ),
    "permissions.user": (_plain, lambda s, id: permissions.may_write(s.tmp, False, is_early=False), FAILED),
    "permissions.root": (
        lambda s, id: permissions.owned_by(s.tmp, 999),
        lambda s, id: permissions.owned_by(s.tmp, 0),
        WARNING,
    ),
    "permissions.group": (_plain, with_(lambda s: s.setting("admin", group="no-such-group")), FAILED),
    "systemd.units": (_plain, with_(lambda s: _one_unit(s)), FAILED),
    "systemd.enabled": (_plain, program("systemctl", UNIT.replace("enabled", "disabled")), WARNING),
    "systemd.active": (_plain, program("systemctl", UNIT.replace("ActiveState=active", "ActiveState=failed")), FAILED),
    "systemd.restarts": (_plain, program("systemctl", UNIT.replace("NRestarts=0", "NRestarts=17")), WARNING),
    "systemd.listens": (
        lambda s, id: program("systemctl", f"{UNIT}\nListen=127.0.0.1:{s.settings.server.port} (Stream)")(s, id),
        lambda s, id: program("systemctl", f"{UNIT}\nListen=127.0.0.1:1 (Stream)")(s, id),
        WARNING,
    ),
    "systemd.exposure": (
        program("systemd-analyze", "→ Overall exposure level for customhouse-api.service: 0.4 SAFE 😀"),
        program("systemd-analyze", "→ Overall exposure level for customhouse-api.service: 7.7 EXPOSED 🙁"),
        WARNING,
    ),
    "sockets.admin": (
        during(lambda s: s.door(s.settings.admin_socket)),
        with_(lambda s: s.dead_socket("admin.sock")),
        FAILED,
    ),
    "sockets.inference": (during(lambda s: s.model_process()), during(lambda s: s.model_process(code=500)), FAILED),
    "sockets.doorbells": (during(lambda s: s.doorbells()), during(lambda s: s.doorbells("prompts", "media")), FAILED),
    "sockets.stale": (during(lambda s: s.doorbells()), with_(lambda s: s.dead_socket("inference.sock")), WARNING),
    "gpu.present": (_plain, with_(lambda s: _on_bus(s)), FAILED),
    "gpu.nodes": (_plain, with_(lambda s: (s.root / "dev/nvidia-uvm").unlink()), FAILED),
    "gpu.runtime": (_plain, with_(lambda s: s.cards(replace(DRIVER, version="470.1", cuda=(11, 4)))), FAILED),
    "gpu.build": (judged(lambda: gpu.build("1.31.1", None)), judged(lambda: gpu.build("1.31.1", "1.31.1")), FAILED),
    "gpu.libraries": (
        judged(lambda: gpu.libraries_are("")),
        judged(lambda: gpu.libraries_are("OSError: libcudnn.so.9: cannot open shared object file")),
        FAILED,
    ),
    "gpu.canary": (
        judged(lambda: gpu.canary(RIGHT, DRIVER, "cuda")),
        judged(lambda: gpu.canary(ON_CPU, DRIVER, "auto")),
        FAILED,
    ),
    "gpu.memory_errors": (_plain, with_(lambda s: s.cards(uncorrected=3)), FAILED),
    "gpu.heat": (_plain, with_(lambda s: s.cards(is_throttled=True, temperature_c=92)), WARNING),
    "gpu.persistence": (_plain, with_(lambda s: s.cards(is_persistent=False)), WARNING),
    "gpu.mig": (_plain, with_(lambda s: s.cards(has_mig=True)), WARNING),
    "memory.models": (_plain, judged(lambda: memory.fits(10**10, 8 * 10**9)), FAILED),
    "memory.gpu": (_plain, with_(lambda s: s.cards(memory_bytes=10**6)), FAILED),
    "memory.pressure": (
        _plain,
        reading("proc/pressure/memory", "some avg10=60 avg60=40.5 avg300=1 total=1\n"),
        WARNING,
    ),
    "memory.killed": (_plain, reading("proc/vmstat", "oom_kill 2\n"), WARNING),
    "models.manifests": (_plain, with_(lambda s: (s.models_dir / "tiny/manifest.toml").write_text("name = 1")), FAILED),
    "models.categories": (_plain, with_(lambda s: (s.models_dir / "tiny/manifest.toml").unlink()), FAILED),
    "models.weights": (_plain, with_(lambda s: s.weights.unlink()), FAILED),
    "models.digests": (_plain, with_(lambda s: s.weights.write_bytes(b"other")), FAILED),
    "models.golden": (lambda s, id: _golden(s, 0.56), lambda s, id: _golden(s, 0.9), FAILED),
    "models.licences": (_plain, with_(lambda s: _licence(s, "CC-BY-NC-4.0")), WARNING),
    "models.judge": (
        with_(lambda s: s.judge(is_capable=True)),
        with_(lambda s: s.judge(is_capable=False)),
        FAILED,
    ),
    "models.running": (
        during(lambda s: s.model_process()),
        during(lambda s: s.model_process(s.status(state="failed"))),
        FAILED,
    ),
    "database.integrity": (_plain, with_(_damaged), FAILED),
    "database.foreign_keys": (_plain, with_(lambda s: _orphan(s)), FAILED),
    "database.schema": (
        _plain,
        with_(lambda s: s.drop("DELETE FROM _sqlite_migrations WHERE name = 'm019_evaluations'")),
        WARNING,
    ),
    "database.triggers": (_plain, with_(_unguarded), FAILED),
    "database.indices": (_plain, with_(lambda s: s.drop("DROP INDEX job_of_org")), WARNING),
    "database.log": (_plain, lambda s, id: database.log_is(s.settings.database, 300), WARNING),
    "database.ledger": (with_(_credit), with_(_broken_ledger), FAILED),
    "database.counters": (_plain, with_(lambda s: s.sql("UPDATE backlog SET open_jobs = 7")), FAILED),
    "database.space": (_plain, judged(lambda: database.space(10**6, 9 * 10**5, 4096, Path("x"))), WARNING),
    "database.lock": (_plain, during(_writing), FAILED),
    "queue.file": (
        with_(lambda s: _queue(s).close()),
        with_(lambda s: s.settings.queue.write_bytes(b"no database" * 1000)),
        FAILED,
    ),
    "queue.depth": (_plain, with_(lambda s: _crowded(s)), FAILED),
    "queue.age": (_plain, with_(_old_job), WARNING),
    "queue.leases": (_plain, with_(_child), FAILED),
    "queue.lost": (_plain, with_(_old_job), FAILED),
    "queue.failures": (
        with_(lambda s: _jobs(s, 30)),
        with_(lambda s: _jobs(s, 30, status="failed", error_code="MODEL_UNAVAILABLE", is_prohibited=None)),
        WARNING,
    ),
    "queue.worker": (
        during(_worker),
        with_(lambda s: _jobs(s, status="queued", completed_at=None)),
        FAILED,
    ),
    "webhooks.failures": (
        with_(lambda s: _deliveries(s, "delivered", 30, s.now_ms())),
        with_(lambda s: _deliveries(s, "failed", 30, s.now_ms())),
        WARNING,
    ),
    "webhooks.due": (
        with_(lambda s: _deliveries(s, "pending", 1, s.now_ms() + 60_000)),
        with_(lambda s: _deliveries(s, "pending", 1, s.now_ms() - 3_600_000)),
        WARNING,
    ),
    "webhooks.disabled": (
        with_(lambda s: _endpoint(s, "https://example.org")),
        with_(lambda s: _endpoint(s, "https://example.org", disabled_at=1)),
        WARNING,
    ),
    "webhooks.secrets": (with_(lambda s: _secret(s, DAY_MS)), with_(lambda s: _secret(s, 400 * DAY_MS)), WARNING),
    "webhooks.signing": (_plain, with_(lambda s: s.setting("webhooks", sign=False)), WARNING),
    "webhooks.plain": (
        with_(lambda s: _endpoint(s, "https://example.org")),
        with_(lambda s: _endpoint(s, "http://example.org")),
        WARNING,
    ),
    "tls.certificate": (_certificate(365), _certificate(5), WARNING),
    "tls.public_url": (_plain, with_(lambda s: s.setting("billing", public_url="http://example.org")), WARNING),
    "stripe.key": (with_(lambda s: s.stripe()), with_(lambda s: s.stripe(mode=0o644)), FAILED),
    "stripe.kind": (with_(lambda s: s.stripe()), with_(lambda s: s.stripe("sk_test_0123456789abcdefgh")), WARNING),
    "stripe.half": (with_(lambda s: s.stripe()), with_(lambda s: s.stripe("rk_live_0123456789abcdefgh")), WARNING),
    "stripe.rights": (
        during(lambda s: s.at_stripe()),
        during(lambda s: s.at_stripe(refuses="GET /v1/disputes")),
        FAILED,
    ),
    "stripe.sync": (with_(lambda s: _synced(s, 30)), with_(lambda s: _synced(s, 8000)), WARNING),
    "stripe.alerts": (
        _plain,
        with_(lambda s: s.sql("INSERT INTO alert (kind, subject, message, created_at) VALUES ('k', 's', 'm', 1)")),
        WARNING,
    ),
    "egress.private": (
        with_(lambda s: s.setting("media", allowed_private_cidrs=["10.1.2.0/24"])),
        with_(lambda s: s.setting("media", allowed_private_cidrs=["169.254.0.0/16"])),
        FAILED,
    ),
    "egress.proxies": (_plain, with_(lambda s: s.environ(HTTPS_PROXY="http://proxy.example:3128")), WARNING),
    "egress.models": (_alone(""), _alone("held = socket.create_server(('127.0.0.1', 0))"), FAILED),
    "egress.policy": (_plain, with_(lambda s: s.setting("billing", stripe_address="https://relay.example")), WARNING),
    "egress.sources": (
        with_(lambda s: s.environ(HF_ENDPOINT="https://hub.example")),
        with_(lambda s: s.environ(HF_ENDPOINT="http://hub.example")),
        WARNING,
    ),
    "backups.age": (with_(lambda s: s.backup()), _plain, WARNING),
    "backups.size": (with_(lambda s: s.backup()), with_(lambda s: s.backup(is_cut=True)), FAILED),
    "backups.whole": (with_(lambda s: s.backup()), with_(lambda s: s.backup(is_damaged=True)), FAILED),
    "backups.pepper": (with_(lambda s: s.backup()), with_(lambda s: s.backup(with_pepper=False)), WARNING),
    "backups.drill": (with_(lambda s: s.drilled()), with_(lambda s: s.drilled(50)), WARNING),
    "backups.follow": (with_(lambda s: s.follows(0.2)), with_(lambda s: s.follows(60)), FAILED),
    "backups.restore": (_plain, with_(lambda s: (s.settings.home / "restore.json").write_text("{}")), FAILED),
    "releases.unfinished": (_laid(), _laid(lambda prefix: journal.write(prefix, CUT_OFF)), FAILED),
    "releases.links": (_laid(), _laid(lambda prefix: shelf.point(prefix, "0.2.0")), FAILED),
    "log.level": (_plain, with_(lambda s: s.setting("log", level="debug")), WARNING),
    "log.journal": (
        _plain,
        program("journalctl", "Archived and active journals take up 9.5G in the file system."),
        WARNING,
    ),
    "log.files": (_plain, with_(lambda s: _sparse(s.settings.home / "log" / "a.log")), WARNING),
    "settings.parse": (_plain, with_(lambda s: make({"CUSTOMHOUSE_SERVER_PORT": "no"})), FAILED),
    "settings.unknown": (_plain, with_(lambda s: s.environ(CUSTOMHOUSE_SERVER_PROT="9000")), WARNING),
    "settings.admin": (
        _plain,
        with_(lambda s: s.setting("server", admin_on_network=True, host="0.0.0.0")),
        WARNING,
    ),
    "settings.files": (_plain, with_(lambda s: _moved(s)), FAILED),
    "settings.bounds": (_plain, with_(lambda s: s.setting("server", max_body_mb=300)), WARNING),
    "settings.kept": (_plain, with_(lambda s: s.setting("retention", prompts_days=FOR_EVER_DAYS)), WARNING),
}


def _touch(path: Path) -> Path:
    path.write_text("")
    path.chmod(0o640)
    return path


def _sparse(path: Path) -> None:
    path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(2_000_000_000)


def _moved(stage: Stage) -> Any:
    return replace(stage.context, settings=msgspec.structs.replace(stage.settings, lexicons_dir=stage.tmp / "gone"))


def _enormous(stage: Stage) -> None:
    """A starter model of the size of a mountain, not fetched yet."""
    stage.weights.unlink()
    path = stage.models_dir / "tiny/manifest.toml"
    path.write_text(
        path.read_text().replace('name = "model.onnx"', 'name = "model.onnx"\nsize_bytes = 900000000000000')
    )


def _leftover(stage: Stage) -> Path:
    path = stage.settings.weights_dir / ".scratch-abc"
    path.mkdir()
    (path / "archive").write_text("half of it")
    os.utime(path, (0, 0))
    return path


def _one_unit(stage: Stage) -> None:
    path = stage.bin / "systemctl"
    missing = UNIT.replace("LoadState=loaded", "LoadState=not-found")
    path.write_text(f'#!/bin/sh\ncase "$2" in *infer*) echo "{UNIT}";; *) echo "{missing}";; esac\n')


def _on_bus(stage: Stage) -> Any:
    stage.file("sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n")
    stage.file("sys/bus/pci/devices/0000:01:00.0/class", "0x030200\n")
    return stage.cards(Driver(why="Driver Not Loaded"))


def _golden(stage: Stage, bright: float) -> Outcome:
    stage.golden(bright)
    environ = {
        **os.environ,
        "CUSTOMHOUSE_HOME": str(stage.settings.home),
        "CUSTOMHOUSE_MODELS_DIR": str(stage.models_dir),
        "CUSTOMHOUSE_CATEGORIES_FILE": str(stage.settings.categories_file),
    }
    return stage.look("models.golden", replace(stage.context, environ=environ))


def _licence(stage: Stage, licence: str) -> None:
    path = stage.models_dir / "tiny/manifest.toml"
    path.write_text(path.read_text().replace("Apache-2.0", licence))


def _orphan(stage: Stage) -> None:
    from appliance.database import connect

    conn = connect(stage.settings.database)
    conn.execute("PRAGMA foreign_keys = OFF")
    conn.execute("INSERT INTO webhook_secret (org_id, secret, created_at) VALUES ('nobody', 's', 1)")
    conn.close()


def _queue(stage: Stage) -> Any:
    from appliance.database import connect

    return connect(stage.settings.queue)


def _crowded(stage: Stage) -> Any:
    _jobs(stage, 3, status="queued", completed_at=None)
    return stage.setting("server", max_pending_jobs=3)


def test_every_check_is_in_the_table() -> None:
    assert set(CASES) == set(CHECKS) - {"host.architecture"}
    assert len(CHECKS) >= 50


@pytest.mark.parametrize("id", CASES)
def test_a_check_says_ok_where_all_is_in_order(stage: Stage, id: str) -> None:
    outcome = CASES[id][0](stage, id)
    assert (outcome.state, outcome.cause, outcome.fix) == (OK, "", ""), outcome


@pytest.mark.parametrize("id", CASES)
def test_a_check_finds_the_one_thing_that_is_broken_and_says_how_to_mend_it(stage: Stage, id: str) -> None:
    _, broken, wanted = CASES[id]
    outcome = broken(stage, id)
    assert outcome.state is wanted, outcome
    assert outcome.says
    assert outcome.cause
    assert outcome.fix
    assert outcome.evidence or id == "disk.media"
    assert not outcome.mendable or CHECKS[id].mend is not None


def test_what_lies_in_a_closed_folder_is_closed(stage: Stage) -> None:
    """2026-11-21: queue.db and the doorbells of a new house are made with the umask, in a folder of mode 0750."""
    for path in (stage.settings.database, stage.weights, stage.settings.media_dir):
        path.chmod(path.stat().st_mode | 0o007)
    for name in ("database", "weights", "media"):
        assert stage.look(f"permissions.{name}").state is OK


def test_the_processors_kind_is_one_that_there_are_wheels_for(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert stage.look("host.architecture").state is OK
    monkeypatch.setattr("platform.machine", lambda: "s390x")
    assert stage.look("host.architecture").state is WARNING


def test_a_process_that_opens_and_closes_files_is_looked_into_all_the_same(stage: Stage) -> None:
    """A file listed may be closed before it is read: that is no other user's process."""
    over = threading.Event()

    def churn() -> None:
        while not over.is_set():
            for one in [os.dup(2) for _ in range(40)]:
                os.close(one)

    busy = threading.Thread(target=churn)
    busy.start()
    try:
        context = replace(stage.context, root=Path("/"))
        seen = {egress.without_network(context, os.getpid()).state for _ in range(60)}
    finally:
        over.set()
        busy.join()
    assert State.SKIPPED not in seen
