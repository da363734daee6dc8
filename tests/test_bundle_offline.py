"""Without any network: a bundle of the real thing, made here, tried out where no route leads anywhere.

The wheels come from the index that pip is configured for, the weights from CUSTOMHOUSE_TEST_WEIGHTS, llama.cpp from
this environment. Then install.sh runs in a network namespace of its own, up to the verdicts.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import bundles
from tests.bundles import ROOT

pytestmark = pytest.mark.weights

WITHOUT_ROUTE = """
import errno, fcntl, os, socket, struct, sys
up = socket.socket()
fcntl.ioctl(up, 0x8914, struct.pack("16sh", b"lo", 0x49))  # SIOCSIFFLAGS: lo is up and running
up.close()
names = sorted(name for _, name in socket.if_nameindex())
lines = open("/proc/net/route").read().splitlines()[1:]
outside = socket.socket()
outside.settimeout(5)
answer = outside.connect_ex(("192.0.2.1", 443))
outside.close()
print(f"interfaces {names}, routes {len(lines)}, outside {errno.errorcode.get(answer, answer)}", flush=True)
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""Brings loopback up, says what there is besides, and becomes the command."""


def ask(home: Path, environ: dict[str, str], *arguments: str, program: Path | None = None) -> Any:
    """What a command answers: of this tree, or that of a box."""
    command = [str(program)] if program else [sys.executable, "-m", "appliance"]
    environ = {**environ, "CUSTOMHOUSE_HOME": str(home)}
    done = subprocess.run([*command, *arguments], cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="session")
def offline() -> list[str]:
    """What a command is put behind, to have no network. Skips, loudly, where there are no namespaces."""
    said = ""
    for flags in ("-rn", "-n"):  # as anybody, or as root where users have no namespaces of their own
        command = ["unshare", flags, sys.executable, "-c", WITHOUT_ROUTE]
        try:
            probe = subprocess.run([*command, "true"], capture_output=True, text=True)
        except FileNotFoundError:
            pytest.skip("NOT TESTED: installing without a network, because there is no unshare(1) here")
        if probe.returncode == 0:
            return command
        said = probe.stderr
    pytest.skip(f"NOT TESTED: installing without a network, because namespaces are forbidden: {said}")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Removed at the end: it holds two gigabytes."""
    path = tmp_path_factory.mktemp("offline")
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def key(folder: Path) -> Path:
    return bundles.key(folder, "alice")


@pytest.fixture(scope="session")
def bundle(folder: Path, key: Path) -> Path:
    """Everything: this tree, every pinned wheel, the starter weights, a signature."""
    weights = os.environ.get("CUSTOMHOUSE_TEST_WEIGHTS")
    if not weights:
        pytest.skip("CUSTOMHOUSE_TEST_WEIGHTS is not set; ./install.sh test sets it")
    home = folder / "home"
    home.mkdir()
    (home / "weights").symlink_to(Path(weights).resolve())
    ask(home, dict(os.environ), "keys", "list", "--json")  # makes the database, and with it the audit log
    path = folder / "customhouse.tar"
    command = [sys.executable, "-m", "appliance", "bundle", "create", "--sign", str(key), "-o", str(path), "--json"]
    said = ""
    for _ in range(3):  # an index may have a bad moment
        environ = {**os.environ, "CUSTOMHOUSE_HOME": str(home)}
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
        said = done.stderr
        if done.returncode == 0:
            return path
    raise AssertionError(f"no bundle could be made: {said}")


@pytest.fixture(scope="session")
def box(bundle: Path, folder: Path) -> Path:
    """A folder with nothing but what was in the open in the bundle."""
    path = folder / "box"
    path.mkdir()
    subprocess.run(["tar", "-xf", str(bundle), "-C", str(path), "install.sh", "systemd"], check=True)
    return path


def environ_of_a_box(folder: Path) -> dict[str, str]:
    """Nothing of what this session knows: no index, no weights, no settings. Only this Python is found first."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    python = programs / "python3"
    if not python.exists():
        python.symlink_to(sys.base_prefix + f"/bin/python{bundles.PYTHON}")
    return {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(folder), "OMP_NUM_THREADS": "2"}


def test_with_no_route_the_bundle_is_tried_up_to_real_verdicts(
    offline: list[str], bundle: Path, box: Path, folder: Path, key: Path
) -> None:
    install = ["./install.sh", "--bundle", str(bundle), "--signers", str(key.with_suffix(".signers")), "--cpu", "try"]
    environ = environ_of_a_box(folder)
    done = subprocess.run([*offline, *install], cwd=box, env=environ, capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert said.startswith("interfaces ['lo'], routes 0, outside ENETUNREACH"), said
    assert done.returncode == 0, said
    assert "signed by alice@example.test" in said
    assert "models ready on cpu" in said

    program = box / ".customhouse/venv/bin/customhouse"
    listed = ask(box / ".customhouse", environ, "jobs", "list", "--json", program=program)
    images = [job for job in listed if job["kind"] == "IMAGE_MODERATION"]
    assert len(images) >= 3, listed
    assert {job["status"] for job in images} == {"completed"}
    assert all(job["is_prohibited"] in (True, False) for job in images)
    tree = box / ".customhouse/bundle/source"
    where = subprocess.run(
        [box / ".customhouse/venv/bin/python", "-c", "import appliance; print(appliance.__file__)"],
        cwd=box,  # where no other is
        capture_output=True,
        text=True,
    )
    assert where.stdout.strip() == str(tree / "appliance/__init__.py")


def test_that_a_bundle_was_made_is_in_the_audit_log(bundle: Path, folder: Path) -> None:
    lines = ask(folder / "home", dict(os.environ), "audit", "list", "--json")
    (line,) = [line for line in lines if line["action"] == "bundle.created"]
    assert line["subject"] == str(bundle)
    assert line["detail"]["signed"]
    assert "opennsfw" in line["detail"]["models"]


def test_a_spoiled_bundle_installs_nothing_without_a_route(offline: list[str], folder: Path) -> None:
    """The last kilobytes are lost, as by a stick that was pulled too early."""
    made = bundles.Maker(folder / "small").make(folder / "small.tar")
    other = folder / "other"
    other.mkdir()
    subprocess.run(["tar", "-xf", made.path, "-C", str(other), "install.sh", "systemd"], check=True)
    os.truncate(made.path, made.size_bytes - 20_000)
    install = ["./install.sh", "--bundle", made.path, "--cpu", "try"]
    environ = environ_of_a_box(folder)
    done = subprocess.run([*offline, *install], cwd=other, env=environ, capture_output=True, text=True)
    assert done.returncode == 1
    assert "is truncated" in done.stderr
    assert not (other / ".customhouse/venv").exists()
    assert not (other / ".customhouse/weights").exists()
    assert not (other / ".customhouse/bundle").exists()
