"""age: a backup is sealed for public keys, and opened by an identity that need not be on this machine.

The only file that imports pyrage, the Python binding of rage.
"""

import contextlib
import os
import threading
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyrage

from appliance.errors import BackupError

# pyrage is a compiled module without types; what leaves this file is typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportMissingTypeStubs=false

MAGIC = b"age-encryption.org/v1\n"
"""What an encrypted file begins with."""


class Identity:
    """What opens. It does not print."""

    def __init__(self, keys: list[Any]) -> None:
        self.keys = keys

    def __repr__(self) -> str:
        return "Identity(…)"


def recipients(keys: Sequence[str]) -> list[Any]:
    """Those that may open it. Raises BackupError with the first that is no public key."""
    found: list[Any] = []
    for key in keys:
        try:
            if key.startswith("ssh-"):
                found.append(pyrage.ssh.Recipient.from_str(key))
            else:
                found.append(pyrage.x25519.Recipient.from_str(key))
        except Exception as error:  # pyrage's own class is no part of its published interface
            raise BackupError(
                f"backup.recipients: {key[:24]!r} is no age public key (age1…) and no ssh public key"
            ) from error
    return found


def generate() -> tuple[str, str]:
    """A new identity, and its public key for backup.recipients."""
    made = pyrage.x25519.Identity.generate()
    return str(made), str(made.to_public())


def identity(path: Path) -> Identity:
    """A file as age-keygen or `customhouse backup keygen` writes it, or an ssh private key. Raises BackupError."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BackupError(f"{path}: the identity cannot be read") from error
    found: list[Any] = []
    try:
        if "PRIVATE KEY-----" in text:
            found.append(pyrage.ssh.Identity.from_buffer(text.encode()))
        for line in text.splitlines():
            if line.strip().startswith("AGE-SECRET-KEY-1"):
                found.append(pyrage.x25519.Identity.from_str(line.strip()))
    except Exception as error:
        raise BackupError(f"{path}: no identity that opens a backup") from error
    if not found:
        raise BackupError(f"{path}: there is no line AGE-SECRET-KEY-1… in it")
    return Identity(found)


def seal(data: bytes, keys: Sequence[Any]) -> bytes:
    return cast(bytes, pyrage.encrypt(data, keys))


def open_(data: bytes, who: Identity | None) -> bytes:
    """Raises BackupError."""
    if who is None:
        raise BackupError("it is encrypted; name the identity that opens it: --identity FILE")
    try:
        return cast(bytes, pyrage.decrypt(data, who.keys))
    except Exception as error:
        raise BackupError(_WRONG) from error


_WRONG = "it cannot be opened: it was sealed for other keys than this identity's, or it is damaged"


@contextlib.contextmanager
def writing(file: BinaryIO, keys: Sequence[Any]) -> Generator[BinaryIO]:
    """What is written goes to `file`, sealed if there are keys; unsealed bytes pass through a pipe only."""
    if not keys:
        yield file
        return
    read_end, write_end = os.pipe()
    taken, given = os.fdopen(read_end, "rb"), os.fdopen(write_end, "wb")
    failed: list[Exception] = []

    def work() -> None:
        try:
            pyrage.encrypt_io(taken, file, keys)
        except Exception as error:
            failed.append(error)
        finally:
            taken.close()  # who writes is not to wait for ever

    thread = threading.Thread(target=work, name="age", daemon=True)
    thread.start()
    try:
        yield given
        given.close()
    except BaseException:
        with contextlib.suppress(OSError):
            given.close()
        thread.join()
        if failed:
            raise _as_it_was(failed[0]) from failed[0]
        raise
    thread.join()
    if failed:
        raise _as_it_was(failed[0])


@contextlib.contextmanager
def reading(file: BinaryIO, who: Identity | None) -> Generator[BinaryIO]:
    """What stands in `file`, opened if it is sealed. Raises BackupError."""
    begins = file.read(len(MAGIC))
    file.seek(0)
    if begins != MAGIC:
        yield file
        return
    if who is None:
        raise BackupError("it is encrypted; name the identity that opens it: --identity FILE")
    failed: list[Exception] = []
    read_end, write_end = os.pipe()
    taken, given = os.fdopen(read_end, "rb"), os.fdopen(write_end, "wb")

    def work() -> None:
        try:
            with given:
                pyrage.decrypt_io(file, given, who.keys)
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=work, name="age", daemon=True)
    thread.start()
    try:
        yield taken
        while taken.read(1 << 16):  # to its end, where the last part of the seal is compared
            pass
        thread.join()
    except Exception as error:
        taken.close()  # it stops writing
        thread.join()
        raise BackupError(_WRONG) if any(_is_seal(one) for one in failed) else error from error
    finally:
        taken.close()
        thread.join()
    if failed:
        raise BackupError(_WRONG) from failed[0]


def _is_seal(error: Exception) -> bool:
    """It did not end because nobody read on."""
    return not isinstance(error, BrokenPipeError) and "roken pipe" not in str(error)


def _as_it_was(error: Exception) -> Exception:
    """An error of the file that was written to, e.g. that its disk is full, is that of the file."""
    return error if isinstance(error, OSError) else BackupError(f"it could not be encrypted ({error})")
