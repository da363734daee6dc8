"""What a decoder process gives up before it looks at anybody's file.

Two steps, because a network of one's own can only be taken while there is a single thread, and the file system can only
be closed when every library has been loaded. What the kernel or the platform does not offer is passed over in silence:
limits of memory and time, and the separate process, hold everywhere.
"""

import contextlib
import ctypes
import os
import resource
import struct

_NEW_USER, _NEW_NET = 0x10000000, 0x40000000
_NO_NEW_PRIVILEGES = 38
_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446  # the same numbers on every architecture
_LANDLOCK_VERSION = 1
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # how many rights each version knows; 16 from the fifth on
_TCP_RIGHTS = 0b11  # bind and connect, from the fourth version on
_MB = 1_000_000
_LARGEST_WRITTEN = 64 * _MB


def leave_network() -> bool:
    """An empty network namespace of our own, if the kernel lets an ordinary user have one. Before threads begin."""
    return ctypes.CDLL(None, use_errno=True).unshare(_NEW_USER | _NEW_NET) == 0


def limit(memory_mb: int, open_files: int) -> None:
    """From here on: this much memory more than now, few files, no core; a file in memory counts as a file."""
    room = _mapped() + memory_mb * _MB
    for what, most in (
        (resource.RLIMIT_AS, room),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, _LARGEST_WRITTEN),
        (resource.RLIMIT_NOFILE, open_files),
    ):
        resource.setrlimit(what, (most, most))


def close_files() -> bool:
    """No path can be opened and no TCP connection be made any more; only what is handed over can be read."""
    libc = ctypes.CDLL(None, use_errno=True)
    with contextlib.suppress(OSError):
        version = libc.syscall(_LANDLOCK_CREATE, None, 0, _LANDLOCK_VERSION)
        if version < 1 or libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
            return False
        rights = (1 << _FILE_RIGHTS.get(version, 16)) - 1
        rules = struct.pack("=QQ", rights, _TCP_RIGHTS) if version >= 4 else struct.pack("=Q", rights)
        ruleset = libc.syscall(_LANDLOCK_CREATE, rules, len(rules), 0)
        if ruleset < 0:
            return False
        try:
            return libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0) == 0
        finally:
            os.close(ruleset)
    return False


def _mapped() -> int:
    """Bytes of address space in use, the libraries' included."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()
