"""Runs a command under a unit's system call filter, address families, namespaces and memory rule, as systemd would set
them, without systemd: `python -m tests.confined UNIT -- COMMAND …`. What a unit forbids is an error, as there."""

import ctypes
import errno
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_EQ, _MASKED = 4, 7
_EXEC_AND_WRITE, _EXEC = 0b110, 0b100
_NO_NEW_PRIVILEGES = 38
_FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10}
_NAMESPACES = {
    "mnt": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "net": 0x40000000,
}


class _Argument(ctypes.Structure):
    _fields_ = (
        ("place", ctypes.c_uint),
        ("how", ctypes.c_int),
        ("one", ctypes.c_uint64),
        ("two", ctypes.c_uint64),
    )


class Filter:
    """What the unit's text allows."""

    def __init__(self, text: str) -> None:
        said = lambda key: re.findall(rf"^{key}=(.*)$", text, re.MULTILINE)  # noqa: E731
        groups = _groups()
        self.calls = _expand("@default", groups)
        for value in said("SystemCallFilter"):
            for word in value.lstrip("~").split():
                named = _expand(word, groups)
                self.calls = self.calls - named if value.startswith("~") else self.calls | named
        self.families = [_FAMILIES[name] for name in said("RestrictAddressFamilies")[-1].split()]
        allowed = said("RestrictNamespaces")[-1]
        kept = set[str]() if allowed == "yes" else set(allowed.split())
        self.no_namespaces = sum(bit for name, bit in _NAMESPACES.items() if name not in kept)
        self.denies_making_code = said("MemoryDenyWriteExecute")[-1] == "yes"

    def load(self) -> None:
        """On this process and all it starts, for good. Raises OSError."""
        library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
        library.seccomp_init.restype = ctypes.c_void_p
        context = ctypes.c_void_p(library.seccomp_init(_ERRNO | errno.EPERM))

        def rule(call: str, *arguments: tuple[int, int, int, int], action: int = _ALLOW) -> None:
            number = library.seccomp_syscall_resolve_name(call.encode())
            if number < 0:
                return  # not of this machine, or newer than its library
            array = (_Argument * len(arguments))(*arguments)
            if library.seccomp_rule_add_array(context, action, number, len(arguments), array) != 0:
                raise OSError(f"no rule for {call}")

        for call in sorted(self.calls):
            if call == "socket":
                for family in self.families:
                    rule(call, (0, _EQ, family, 0))
            elif call in ("clone", "unshare"):
                rule(call, (0, _MASKED, self.no_namespaces, 0))
            elif call == "mmap" and self.denies_making_code:
                rule(call, (2, _MASKED, _EXEC, 0))
                rule(call, (2, _MASKED, _EXEC_AND_WRITE, _EXEC))
            elif call in ("mprotect", "pkey_mprotect") and self.denies_making_code:
                rule(call, (2, _MASKED, _EXEC, 0))
            elif call != "clone3":
                rule(call)
        rule("clone3", action=_ERRNO | errno.ENOSYS)  # its flags are out of a filter's sight: libc then uses clone
        if ctypes.CDLL(None).prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0 or library.seccomp_load(context) != 0:
            raise OSError("the filter cannot be loaded")


def _groups() -> dict[str, list[str]]:
    listed = subprocess.run(["systemd-analyze", "syscall-filter"], capture_output=True, text=True, check=True).stdout
    groups: dict[str, list[str]] = {}
    name = ""
    for line in listed.splitlines():
        if line.startswith("@"):
            name = line.strip()
            groups[name] = []
        elif name and line.strip() and not line.strip().startswith("#"):
            groups[name].append(line.strip())
    return groups


def _expand(word: str, groups: dict[str, list[str]]) -> set[str]:
    if not word.startswith("@"):
        return {word}
    parts: Iterable[set[str]] = (_expand(each, groups) for each in groups[word])
    return set[str]().union(*parts)


if __name__ == "__main__":
    Filter(Path(sys.argv[1]).read_text()).load()
    os.execvp(sys.argv[3], sys.argv[3:])
