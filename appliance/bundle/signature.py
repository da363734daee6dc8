"""Signatures by `ssh-keygen -Y`: of SHA256SUMS, and so of every byte of a bundle."""

import re
import subprocess
import tempfile
from pathlib import Path

from appliance.errors import BundleError

NAMESPACE = "customhouse-bundle"


def sign(sums: bytes, key: Path) -> bytes:
    """The signature by this key, whose pass phrase ssh-keygen asks for itself. A public key is looked for in the
    agent. Raises BundleError."""
    if not key.is_file():
        raise BundleError(f"{key}: there is no such key; make one with: ssh-keygen -t ed25519 -f {key}")
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "sums"
        file.write_bytes(sums)
        done = _run("-Y", "sign", "-q", "-f", str(key), "-n", NAMESPACE, str(file))
        signature = file.with_suffix(".sig")
        if done.returncode or not signature.is_file():
            raise BundleError(f"{key}: could not sign: {_last(done)}. Nothing was written")
        return signature.read_bytes()


def signer(sums: bytes, signature: bytes, signers: Path) -> str:
    """Who signed it, of those in an allowed_signers file (ssh-keygen(1)). Raises BundleError when it is none of them,
    or what is signed is something else."""
    if not signers.is_file():
        raise BundleError(f"{signers}: there is no such file of signers")
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "sig"
        file.write_bytes(signature)
        given = ["-s", str(file), "-f", str(signers)]
        found = _run("-Y", "find-principals", *given, sums=b"")
        names = found.stdout.decode(errors="replace").splitlines()
        for name in names:
            if _run("-Y", "verify", *given, "-n", NAMESPACE, "-I", name, sums=sums).returncode == 0:
                return name
    who = f"signed by {names[0]}, but what it says is not what was signed" if names else "signed by nobody in that file"
    raise BundleError(f"the bundle is {who} ({signers}): do not install it")


def key_of(sums: bytes, signature: bytes) -> str:
    """The fingerprint of the key that signed it, which says nothing of whose key that is. Raises BundleError when the
    signature is of something else."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "sig"
        file.write_bytes(signature)
        done = _run("-Y", "check-novalidate", "-n", NAMESPACE, "-s", str(file), sums=sums)
    key = re.search(rb"\b(SHA256:[A-Za-z0-9+/=]+)", done.stdout)
    if done.returncode or key is None:
        raise BundleError(f"the signature is of something else, or damaged: {_last(done)}. Do not install it")
    return key.group(1).decode()


def _run(*arguments: str, sums: bytes | None = None) -> "subprocess.CompletedProcess[bytes]":
    """With nothing to read it keeps our standard input: it may have to ask for a pass phrase."""
    try:
        return subprocess.run(["ssh-keygen", *arguments], capture_output=True, input=sums)
    except FileNotFoundError as error:
        raise BundleError("ssh-keygen is needed for signatures and is not here: apt install openssh-client") from error


def _last(done: "subprocess.CompletedProcess[bytes]") -> str:
    said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
    return said[-1] if said else f"exit code {done.returncode}"
