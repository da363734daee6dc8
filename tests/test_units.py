"""The units as install.sh fills them in: what systemd says of them, what they promise, and that the work can be done
under them. systemd itself is not run here; its filter is, on the real decoders."""

import configparser
import re
import shutil
import ssl
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

from appliance import settings
from appliance.__main__ import root
from appliance.api import life, server
from appliance.doctor.checks.systemd import UNITS
from appliance.services import NAMES
from appliance.work import process

ROOT = Path(__file__).resolve().parent.parent
SYSTEMD = ROOT / "systemd"
SERVICES = sorted(path.name for path in SYSTEMD.glob("*.service"))
ALL = sorted(path.name for kind in ("service", "socket", "target", "timer") for path in SYSTEMD.glob(f"*.{kind}"))

EXPOSURE = {
    "customhouse-api.service": 0.4,
    "customhouse-worker.service": 1.4,
    "customhouse-inference.service": 0.3,
    "customhouse-backup.service": 0.2,
    "customhouse-retention.service": 0.2,
    "customhouse-verify.service": 0.2,
}
"""As systemd 252 counts it, 0 to 10. Another version may count a little otherwise."""

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")


def filled(name: str, folder: Path, *, user: bool = False) -> str:
    """The file as systemd/install/units.sh fills it in."""
    values = {
        "prefix": folder / "opt",
        "owner": "customhouse",
        "group": "customhouse",
        "home": "/var/lib/customhouse",
        "etc": "/etc/customhouse",
        "run_dir": "/run/customhouse",
        "is_user": "yes" if user else "no",
    }
    script = (
        'set -euo pipefail; die() { echo "$*" >&2; exit 1; }; source systemd/install/units.sh; fill_in systemd/' + name
    )
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", **{key: str(value) for key, value in values.items()}},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def written(folder: Path, *, user: bool = False, dropins: tuple[tuple[str, str], ...] = ()) -> Path:
    """All units in a folder, with the program that they start in its place, and further files beside some."""
    program = folder / "opt" / "current" / "venv" / "bin" / "customhouse"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    units = folder / "units"
    units.mkdir()
    for name in ALL:
        (units / name).write_text(filled(name, folder, user=user))
    for service, name in dropins:
        beside = units / f"{service}.d"
        beside.mkdir(exist_ok=True)
        (beside / name).write_text(filled(name, folder, user=user))
    return units


def values(name: str, key: str) -> list[str]:
    """What the unit says of the key, in order."""
    return re.findall(rf"^{key}=(.*)$", (SYSTEMD / name).read_text(), re.MULTILINE)


def exposure(path: Path) -> float:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", path.name],
        cwd=path.parent,
        env={"PATH": "/usr/bin:/bin", "SYSTEMD_UNIT_PATH": f"{path.parent}:", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stdout[-500:] + done.stderr
    return float(found.group(1))


# --- what systemd says ------------------------------------------------------------------------------------------------


@needs_systemd
@pytest.mark.parametrize("manager", ["--system", "--user"])
def test_systemd_finds_nothing_to_say_of_them(tmp_path: Path, manager: str) -> None:
    dropins = (
        ("customhouse-inference.service", "customhouse-inference-gpu.conf"),
        ("customhouse-api.service", "customhouse-api-network.conf"),
    )
    units = written(tmp_path, user=manager == "--user", dropins=dropins)
    done = subprocess.run(
        ["systemd-analyze", manager, "--man=no", "verify", *(str(units / name) for name in ALL)],
        env={"PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if "customhouse" in line]
    assert (done.returncode, ours) == (0, [])


@needs_systemd
def test_they_expose_no_more_than_they_must(tmp_path: Path) -> None:
    units = written(tmp_path)
    found = {name: exposure(units / name) for name in SERVICES}
    assert found["customhouse-api.service"] <= 1.1
    assert found["customhouse-inference.service"] <= 1.5
    assert {name: level for name, level in found.items() if level > EXPOSURE[name] + 0.15} == {}


@needs_systemd
def test_with_a_gpu_and_with_stripe_they_expose_little_more(tmp_path: Path) -> None:
    """Each with what is added on such a box appended, as a file beside the unit is."""
    (tmp_path / "with").mkdir()
    for service, more, most in (
        ("customhouse-inference.service", "customhouse-inference-gpu.conf", 1.5),
        ("customhouse-api.service", "customhouse-api-network.conf", 1.3),
    ):
        path = tmp_path / "with" / service
        path.write_text(filled(service, tmp_path) + filled(more, tmp_path))
        assert exposure(path) <= most


# --- what they promise ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SERVICES)
def test_what_they_start_is_a_command_of_ours(name: str) -> None:
    started = values(name, "ExecStart")
    assert started
    for line in started:
        program, *arguments = line.split()
        assert program == "@PREFIX@/current/venv/bin/customhouse"  # one symlink decides which version runs
        command: click.Command = root
        context = click.Context(root)
        while isinstance(command, click.Group):
            found = command.get_command(context, arguments.pop(0))
            assert found is not None, line
            command = found
        command.make_context(name, arguments)  # raises when an option or an argument is none of its


def test_every_unit_that_is_named_is_there_and_every_process_has_one() -> None:
    wanted = " ".join(values("customhouse.target", "Wants")).split()
    assert set(wanted) <= set(ALL)
    assert set(UNITS) == {f"customhouse-{name}.service" for name in NAMES}
    assert set(UNITS) <= set(wanted)
    for timer in SYSTEMD.glob("*.timer"):
        assert timer.with_suffix(".service").exists()
        assert timer.name in wanted
    for name in ALL:
        parser = configparser.RawConfigParser(strict=False, comment_prefixes=("#",), delimiters=("=",))
        parser.read_string((SYSTEMD / name).read_text())
        assert parser.get("Unit", "Description").startswith("Customhouse: ")
        if name != "customhouse.target" and parser.has_section("Install"):
            assert parser.get("Install", "WantedBy") == "customhouse.target"


def test_the_socket_is_handed_over_under_the_name_that_the_server_looks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    (name,) = values("customhouse-api.socket", "FileDescriptorName")
    asked: list[str] = []

    class Nothing(dict[str, int]):
        def get(self, key: str, default: int | None = None) -> int | None:  # type: ignore[override]
            asked.append(key)
            return default

    monkeypatch.setattr("appliance.handed.sockets", Nothing)
    assert server._handed() is None  # pyright: ignore[reportPrivateUsage]
    assert asked == [name]
    assert values("customhouse-api.socket", "ListenStream") == ["127.0.0.1:8000"]
    held = tomllib.loads((ROOT / "config" / "customhouse.toml").read_text())["server"]
    assert (held["host"], held["port"]) == ("127.0.0.1", 8000)


def test_only_the_worker_may_reach_the_network() -> None:
    network = {name: values(name, "PrivateNetwork") for name in SERVICES}
    assert network.pop("customhouse-worker.service") == ["no"]
    assert set(map(tuple, network.values())) == {("yes",)}
    for name in network:
        assert values(name, "RestrictAddressFamilies") == ["AF_UNIX"]
        assert values(name, "IPAddressDeny") == ["any"]


def test_systemd_waits_longer_than_we_take_to_finish_and_hears_of_us_often_enough() -> None:
    finish_s = max(life.LONGEST_S + server._FINISH_S, process._FINISH_S)  # pyright: ignore[reportPrivateUsage]
    for name in UNITS:
        assert int(values(name, "TimeoutStopSec")[0]) > finish_s + 5
        assert values(name, "Type") == ["notify"]
        assert int(values(name, "WatchdogSec")[0]) >= 30  # beats are 5 s apart; a loaded machine may be late
        assert values(name, "Restart") == ["always"]
        assert values(name, "StartLimitIntervalSec") == ["0"]
        assert values(name, "MemoryMax")
        assert values(name, "MemoryHigh")
        assert "CUSTOMHOUSE_RUNTIME_DIR=@RUN@" in values(name, "Environment")[0]
    assert values("customhouse-api.service", "KillMode") == ["mixed"]  # its children leave in order, not by SIGTERM


def test_a_user_gets_nothing_that_only_the_systems_manager_can_do(tmp_path: Path) -> None:
    for name in SERVICES:
        text = filled(name, tmp_path, user=True)
        keys = {line.partition("=")[0] for line in text.splitlines() if "=" in line and not line.startswith("#")}
        forbidden = {"User", "Group", "ProtectSystem", "PrivateNetwork", "PrivateDevices", "CapabilityBoundingSet"}
        assert not keys & forbidden
        assert {"NoNewPrivileges", "SystemCallFilter", "RestrictAddressFamilies", "ExecStart"} <= keys


@pytest.mark.parametrize("content", ["", "\n"])
def test_a_credential_that_nobody_filled_is_none(tmp_path: Path, content: str) -> None:
    for name in ("stripe-key", "tls-certificate", "tls-key"):
        (tmp_path / name).write_text(content)
    held = settings.load(environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert (held.billing.stripe_key_file, held.server.tls_certificate, held.server.tls_key) == ("", "", "")
    for name in ("stripe-key", "tls-certificate", "tls-key"):
        (tmp_path / name).write_text("secret\n")
    held = settings.load(environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert held.billing.stripe_key_file == str(tmp_path / "stripe-key")
    assert held.server.tls_certificate == str(tmp_path / "tls-certificate")
    assert held.server.tls_key == str(tmp_path / "tls-key")
    for name in ("customhouse-api.service", "customhouse-worker.service"):
        named = {value.partition(":")[0] for value in values(name, "LoadCredential")}
        assert {value.partition(":")[0] for value in values(name, "SetCredential")} == named


# --- under them -------------------------------------------------------------------------------------------------------

DECODES = """
import os, socket, sys
from pathlib import Path
from appliance import settings
from appliance.media.decoders import Decoders

decoders = Decoders(settings.load(environ={"CUSTOMHOUSE_HOME": sys.argv[1]}))
print(len(decoders.image(Path(sys.argv[2]))))
print(*{os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net") for pid in decoders.pids()})
print(*{line.split()[1] for pid in decoders.pids() for line in open(f"/proc/{pid}/status") if "Seccomp:" in line})
decoders.close()
try:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
except OSError as error:
    print(error.strerror)
try:
    os.chown(sys.argv[1], 1, 1)
except OSError as error:
    print(error.strerror)
"""


@needs_systemd
def test_the_decoders_do_their_work_under_the_workers_filter_in_networks_of_their_own(tmp_path: Path) -> None:
    picture = ROOT / "appliance" / "demo" / "media" / "chelsea.jpg"
    unit = SYSTEMD / "customhouse-worker.service"
    can_unshare = subprocess.run(["unshare", "-U", "-n", "true"], capture_output=True, check=False).returncode == 0
    done = subprocess.run(
        [sys.executable, "-m", "tests.confined", unit, "--", sys.executable, "-c", DECODES, tmp_path, picture],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    refused = "Operation not permitted"
    assert done.stdout.splitlines() == ["1", str(can_unshare), "2", refused, refused]


@needs_systemd
@pytest.mark.parametrize("name", ["api", "inference"])
def test_what_the_others_stand_on_can_be_loaded_under_their_filters(name: str) -> None:
    """Every compiled library, and threads; no socket to the network is to be had."""
    modules = {
        "api": "appliance.api.app, appliance.api.server",
        "inference": "appliance.inference.server, onnxruntime, llama_cpp",
    }
    program = (
        f"import socket, threading, {modules[name]}\n"
        "threads = [threading.Thread(target=len, args=([],)) for _ in range(8)]\n"
        "for one in threads: one.start()\n"
        "for one in threads: one.join()\n"
        "try:\n    socket.socket(socket.AF_INET, socket.SOCK_STREAM)\n"
        "except OSError as error:\n    print(error.strerror)\n"
    )
    unit = SYSTEMD / f"customhouse-{name}.service"
    done = subprocess.run(
        [sys.executable, "-m", "tests.confined", unit, "--", sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1:] == ["Operation not permitted"]


# --- in front ---------------------------------------------------------------------------------------------------------


def test_the_proxies_hold_nothing_back_and_let_no_operators_route_through() -> None:
    nginx = (ROOT / "config" / "proxy" / "nginx.conf").read_text()
    for line in (
        "proxy_buffering off;",
        "proxy_request_buffering off;",
        "proxy_http_version 1.1;",
        "proxy_next_upstream off;",
        "proxy_set_header X-Forwarded-Proto $scheme;",
        "proxy_set_header Host $host;",
    ):
        assert line in nginx
    caddy = (ROOT / "config" / "proxy" / "Caddyfile").read_text()
    assert "flush_interval -1" in caddy
    held = settings.load(environ={}).server
    for text, size in ((nginx, r"client_max_body_size (\d+)m;"), (caddy, r"max_size (\d+)MB")):
        found = re.search(size, text)
        assert found
        assert held.max_body_mb <= int(found.group(1)) <= held.max_body_mb * 1.1
        assert "api/v1/admin" in text
        assert "/metrics" in text
        assert f"127.0.0.1:{held.port}" in text
    for text, idle in ((nginx, r"\tkeepalive_timeout (\d+)s;"), (caddy, r"\tkeepalive (\d+)s")):
        found = re.search(idle, text)
        assert found
        assert int(found.group(1)) < held.header_timeout_s


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not here")
def test_nginx_takes_its_file(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    text = (ROOT / "config" / "proxy" / "nginx.conf").read_text()
    text = text.replace("/etc/ssl/customhouse/certificate.pem", str(certificate))
    text = text.replace("/etc/ssl/customhouse/key.pem", str(key))
    # nginx opens what it is to listen at even to test: no port of this machine's, and no family that it may not have
    text = text.replace("listen 443", f"listen unix:{tmp_path}/a").replace(
        "listen [::]:443", f"listen unix:{tmp_path}/b"
    )
    (tmp_path / "ours.conf").write_text(text)
    paths = " ".join(
        f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/pid; error_log {tmp_path}/log; events {{}}\n"
        f"http {{ access_log off; {paths} include {tmp_path}/ours.conf; }}\n"
    )
    done = subprocess.run(["nginx", "-t", "-c", tmp_path / "nginx.conf"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("caddy") is None, reason="caddy is not here")
def test_caddy_takes_its_file(tmp_path: Path) -> None:
    done = subprocess.run(
        ["caddy", "validate", "--adapter", "caddyfile", "--config", ROOT / "config" / "proxy" / "Caddyfile"],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost, signed by itself, and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)),
        ],
        capture_output=True,
        check=True,
    )
    return certificate, key


def test_a_certificate_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    assert server._certificate("", "") == (None, None)  # pyright: ignore[reportPrivateUsage]
    assert server._certificate(str(certificate), str(key)) == (certificate, key)  # pyright: ignore[reportPrivateUsage]
    ssl.create_default_context(cafile=str(certificate))
    for wrong in (tmp_path / "not-there.pem", certificate):
        with pytest.raises(settings.Misconfigured, match="cannot be used"):
            server._certificate(str(certificate), str(wrong))  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(settings.Misconfigured, match="belong together"):
        settings.load(environ={"CUSTOMHOUSE_SERVER_TLS_CERTIFICATE": str(certificate)})
