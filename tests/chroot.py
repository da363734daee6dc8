"""`python -m tests.chroot [debian|ubuntu] [--keep] [--folder DIR]`: the system's installation in a clean root, as root.

Not part of `python -m tests`: it needs root, debootstrap, a mirror, the package index and the sources of the weights.
debootstrap makes a minimal Debian 12 or Ubuntu 24.04; in there, in namespaces of its own, the tree is installed as an
operator would, run by hand (there is no systemd as init), asked for a verdict of a real picture, and removed again. The
steps are in tests/chroot.sh. What pip is told by variables, and the certificates of this machine, are taken along.
CUSTOMHOUSE_WHEELS lends the wheel of llama-cpp-python, which is compiled in there otherwise.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUITES = {"debian": "bookworm", "ubuntu": "noble"}
_AUTHORITIES = "/usr/share/authorities-of-the-machine-around.crt"  # where no package of the distribution writes
_TRUST = ("PIP_CERT", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "NPM_CONFIG_CAFILE")


def main(arguments: list[str] | None = None) -> int:
    """0 when every step came out as it has to."""
    parser = argparse.ArgumentParser(prog="python -m tests.chroot", description="Install in a clean root.")
    parser.add_argument("system", choices=sorted(SUITES), default="debian", nargs="?")
    parser.add_argument("--folder", type=Path, help="a root that debootstrap has made already; it is copied")
    parser.add_argument("--mirror", default="", help="where debootstrap fetches from, if not its own default")
    parser.add_argument("--keyring", default="", help="the keys of that mirror, if this system does not have them")
    parser.add_argument("--systemd", action="store_true", help="install the package first, as a usual system has it")
    parser.add_argument("--keep", action="store_true", help="leave the root there, to look around")
    given = parser.parse_args(arguments)
    if os.geteuid() != 0:
        parser.error("it has to run as root: it makes a root and changes into it")
    scratch = Path(tempfile.mkdtemp(prefix="customhouse-root-"))
    try:
        inside = scratch / "root"
        if given.folder:
            subprocess.run(["cp", "-a", "--reflink=auto", str(given.folder), str(inside)], check=True)
        else:
            _bootstrap(given.system, inside, given.mirror, given.keyring)
        _furnish(inside)
        began = time.monotonic()
        told = {"CUSTOMHOUSE_SERVER_PORT": str(_free_port())}  # the network is the machine's
        if given.systemd:
            told["WITH_SYSTEMD"] = "1"
        code = _enter(inside, "bash", "/root/customhouse/tests/chroot.sh", **told)
        print(f"\n{given.system}: {'as it has to be' if code == 0 else 'FAILED'}, {time.monotonic() - began:.0f} s")
        return code
    finally:
        if given.keep:
            print(f"kept: {scratch}")
        else:
            shutil.rmtree(scratch, ignore_errors=True)


def _bootstrap(system: str, inside: Path, mirror: str, keyring: str) -> None:
    """A root with nothing in it but what a package of the distribution may rely on."""
    command = ["debootstrap", "--variant=minbase"]
    if system == "ubuntu":
        command += ["--components=main,universe"]
    if keyring:
        command += [f"--keyring={keyring}"]
    command += [SUITES[system], str(inside), *([mirror] if mirror else [])]
    if not Path("/usr/share/debootstrap/scripts", SUITES[system]).exists():
        command += [*([] if mirror else [""]), "/usr/share/debootstrap/scripts/gutsy"]  # what all of Ubuntu's are
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _furnish(inside: Path) -> None:
    """The tree as it is committed, without git; names, certificates and a wheel of the machine around it."""
    tree = inside / "root" / "customhouse"
    tree.mkdir(parents=True)
    packed = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-xf", "-", "--no-same-owner"], cwd=tree, input=packed, check=True)
    for name in ("resolv.conf", "hosts"):
        shutil.copy(Path("/etc") / name, inside / "etc" / name, follow_symlinks=True)
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", f"{inside}{_AUTHORITIES}")
    if wheels := os.environ.get("CUSTOMHOUSE_WHEELS"):
        shutil.copytree(wheels, inside / "root" / "wheels")


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def _enter(inside: Path, *command: str, **given: str) -> int:
    """Processes, mounts and names of its own: what is started in there ends with it."""
    environ = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "NPM_CONFIG_"))}
    environ |= dict.fromkeys(_TRUST, _AUTHORITIES)
    environ |= {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
    environ |= {"LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", **given}
    if (inside / "root" / "wheels").is_dir():
        environ["CUSTOMHOUSE_WHEELS"] = "/root/wheels"
    within = (
        'mount --make-rprivate / && mount --bind "$0" "$0" && mount -t proc proc "$0/proc" && '
        'mount -t tmpfs tmpfs "$0/dev" && mkdir "$0/dev/shm" && '
        'for each in null zero full random urandom tty; do : >"$0/dev/$each"; mount --bind /dev/$each "$0/dev/$each"; '
        'done && ln -s /proc/self/fd "$0/dev/fd" && exec chroot "$0" "$@"'
    )
    apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "bash", "-c", within]
    return subprocess.run([*apart, str(inside), *command], env=environ, stdin=subprocess.DEVNULL).returncode


if __name__ == "__main__":
    sys.exit(main())
