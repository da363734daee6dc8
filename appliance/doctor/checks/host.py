"""The machine: kernel, cores, memory, and what the decoders' sandbox needs of it."""

from __future__ import annotations

import locale
import os
import platform
import re
import resource

from appliance.doctor.context import Context
from appliance.doctor.finding import Check, Outcome, Value, failed, ok, skipped, warning

_GB = 1_000_000_000
_OLDEST_KERNEL = [5, 13]  # Landlock
_MACHINES = ("x86_64", "aarch64")
_OWN_FILES = 512

_SANDBOX = """
import json
from appliance.media import sandbox
network = sandbox.leave_network()
files = sandbox.close_files()
print(json.dumps({"network": network, "files": files}))
"""


def _kernel(context: Context) -> Outcome:
    release = context.text("proc/sys/kernel/osrelease").strip() or platform.release()
    numbers = [int(number) for number in re.findall(r"\d+", release)[:2]]
    if numbers < _OLDEST_KERNEL:
        return warning(
            f"Linux {release} has no Landlock",
            cause="the kernel is older than 5.13, so a decoder keeps the right to open files",
            fix="install the distribution's newer kernel and reboot: apt-get install linux-image-amd64",
            release=release,
        )
    return ok(f"Linux {release}", release=release)


def _architecture(_: Context) -> Outcome:
    machine = platform.machine()
    if machine not in _MACHINES:
        return warning(
            f"{machine} is not what Customhouse is made for",
            cause="wheels of onnxruntime and SQLite exist for x86_64 and aarch64",
            fix="use a machine of x86_64 or aarch64",
            machine=machine,
        )
    return ok(machine, machine=machine)


def _cores(context: Context) -> Outcome:
    have = len(os.sched_getaffinity(0))
    quota = _quota(context)
    usable = min(float(have), quota) if quota else float(have)
    evidence: dict[str, Value] = {"cores": have, "usable": round(usable, 2)}
    if usable < 2:
        return warning(
            f"{usable:g} core{'s' if usable != 1 else ''} to work with",
            cause="the models, the worker and the API share it; a limit of the container counts too",
            fix="give the machine or the container at least 2 cores (docker: --cpus=2)",
            evidence=evidence,
        )
    return ok(f"{usable:g} cores", evidence=evidence)


def _quota(context: Context) -> float:
    """Cores that the control group may use; 0 = no limit."""
    found = context.text("sys/fs/cgroup/cpu.max").split()
    return int(found[0]) / int(found[1]) if len(found) == 2 and found[0].isdigit() else 0.0


def meminfo(context: Context) -> dict[str, int]:
    """Bytes by the kernel's names."""
    return {
        name: int(value.split()[0]) * 1024
        for name, _, value in (line.partition(":") for line in context.text("proc/meminfo").splitlines())
        if value.split() and value.split()[0].isdigit()
    }


def memory_limit(context: Context) -> int:
    """Bytes that we may use: the machine's, or the control group's where that is less."""
    total = meminfo(context).get("MemTotal", 0)
    most = context.text("sys/fs/cgroup/memory.max").strip()
    return min(total, int(most)) if most.isdigit() else total


def _memory(context: Context) -> Outcome:
    total = memory_limit(context)
    if not total:
        return skipped("The kernel does not say how much memory there is")
    if total < 4 * _GB:
        return warning(
            f"{total / _GB:.1f} GB of memory",
            cause="the starter models, the worker and the API take about 3 GB together",
            fix="give the machine or the container at least 4 GB, or name fewer models in inference.models",
            total_bytes=total,
        )
    return ok(f"{total / _GB:.1f} GB of memory", total_bytes=total)


def _swap(context: Context) -> Outcome:
    facts = meminfo(context)
    if "SwapTotal" not in facts:
        return skipped("The kernel does not say how much swap there is")
    used = facts["SwapTotal"] - facts.get("SwapFree", 0)
    if used > facts.get("MemTotal", 0) // 4:
        return warning(
            f"{used / _GB:.1f} GB are swapped out",
            cause="something on this machine needs more memory than there is; a model that is swapped out answers late",
            fix="see who: ps -eo rss,comm --sort=-rss | head; then load fewer models or add memory",
            used_bytes=used,
        )
    return ok(f"{used / _GB:.1f} GB swapped out", used_bytes=used)


def _load(context: Context) -> Outcome:
    words = context.text("proc/loadavg").split()
    if not words:
        return skipped("The kernel does not say how much is waiting")
    cores, load = len(os.sched_getaffinity(0)), float(words[1])
    if load > 4 * cores:
        return warning(
            f"{load:g} tasks wanted {cores} cores in the last 5 minutes",
            cause="more runs here than the machine can do",
            fix="see what: ps -eo pcpu,comm --sort=-pcpu | head",
            load=load,
            cores=cores,
        )
    return ok(f"Load {load:g} on {cores} cores", load=load, cores=cores)


def _virtualisation(context: Context) -> Outcome:
    found = context.run("systemd-detect-virt")
    kind = found.out.strip() if found else ""
    if not kind:
        kind = "container" if context.text("run/.containerenv") or (context.root / ".dockerenv").exists() else "none"
    if kind == "wsl":
        return warning(
            "This is WSL",
            cause="its clock stops while the computer sleeps, and its file systems differ",
            fix="use it to look at Customhouse; put a real one on Linux",
            kind=kind,
        )
    return ok("On the machine itself" if kind == "none" else f"Virtualised: {kind}", kind=kind)


def _locale(context: Context) -> Outcome:
    said = context.environ.get("LC_ALL") or context.environ.get("LC_CTYPE") or context.environ.get("LANG") or ""
    is_utf8 = "utf-8" in said.lower().replace("utf8", "utf-8") or (
        not said and locale.getpreferredencoding(False).lower().startswith("utf")
    )
    if not is_utf8:
        return warning(
            "The locale is not of UTF-8",
            cause="file names and the terminal UI then lose letters",
            fix="export LC_ALL=C.UTF-8",
            is_utf8=False,
        )
    return ok("UTF-8", is_utf8=True)


def _files(context: Context) -> Outcome:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = (context.settings.server.max_connections if context.settings else 10_000) + _OWN_FILES
    evidence: dict[str, Value] = {"soft": soft, "hard": hard, "wanted": wanted}
    if hard != resource.RLIM_INFINITY and hard < wanted:
        return warning(
            f"At most {hard:,} open files; {wanted:,} are wanted",
            cause="each connection is a file: fewer can be open than server.max_connections says",
            fix=f"LimitNOFILE={wanted} in the unit, or in a shell: ulimit -Hn {wanted}",
            evidence=evidence,
        )
    return ok(
        f"Up to {hard:,} open files" if hard != resource.RLIM_INFINITY else "Open files without limit",
        evidence=evidence,
    )


def _tasks(context: Context) -> Outcome:
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    most = context.text("sys/fs/cgroup/pids.max").strip()
    limits = [limit for limit in (hard, int(most) if most.isdigit() else -1) if limit > 0]
    least = min(limits, default=0)
    if limits and least < 512:
        return warning(
            f"At most {least} threads and processes",
            cause="the processes of Customhouse have about 200 threads together",
            fix="TasksMax=2048 in the unit, or docker: --pids-limit 2048",
            most=least,
        )
    return ok("Threads and processes enough", most=least, soft=soft)


def _sandbox(context: Context) -> Outcome:
    """As a decoder does it, in a process of its own."""
    ran = context.python("-c", _SANDBOX, timeout_s=40)
    if ran is None or ran.code != 0:
        return failed(
            "The decoders' sandbox cannot be tried",
            cause="the process that tries it does not run",
            fix="customhouse doctor python",
        )
    import json

    has: dict[str, bool] = json.loads(ran.out)
    return sandbox(has["network"], has["files"])


def sandbox(network: bool, files: bool) -> Outcome:
    lacks = [what for what, there in (("a network of its own", network), ("closed files", files)) if not there]
    if lacks:
        return warning(
            f"A decoder runs without {' and without '.join(lacks)}",
            cause="the kernel or the container offers no user namespaces or no Landlock; limits of memory and time, "
            "and "
            "the process of its own, hold all the same",
            fix="sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=15000; for Landlock a kernel "
            "of 5.13 or later with lsm=landlock,…",
            network=network,
            files=files,
        )
    return ok("A decoder gives up network and files", network=True, files=True)


CHECKS = (
    Check(
        "host.kernel",
        "The kernel",
        "Linux 5.13 and later have Landlock, by which a decoder process gives up the right to open files before it "
        "looks at anybody's picture. An older kernel works, with one wall less.",
        _kernel,
        is_early=True,
    ),
    Check(
        "host.architecture",
        "The processor's kind",
        "The pinned wheels exist for x86_64 and aarch64; CUDA's for x86_64 only.",
        _architecture,
        is_early=True,
    ),
    Check(
        "host.cores",
        "Cores",
        "How many cores may be used, by affinity and by the control group's quota. Models on a CPU take one core's "
        "time for every picture; with one core they hold up the API.",
        _cores,
        is_early=True,
    ),
    Check(
        "host.memory",
        "Memory",
        "The machine's memory, or the control group's limit where that is less. The starter set needs about 3 GB.",
        _memory,
        is_early=True,
    ),
    Check(
        "host.swap",
        "Swap in use",
        "A model whose pages are swapped out answers in seconds instead of milliseconds.",
        _swap,
        is_early=True,
    ),
    Check(
        "host.load",
        "Load",
        "The average of the last five minutes against the cores. Over four tasks a core, everything waits.",
        _load,
        is_early=True,
    ),
    Check(
        "host.virtualisation",
        "Virtualisation",
        "On what this runs, for the record; WSL is not for production.",
        _virtualisation,
        is_early=True,
    ),
    Check(
        "host.locale",
        "Locale",
        "The character set of file names, arguments and the terminal.",
        _locale,
        is_early=True,
    ),
    Check(
        "host.files",
        "Open files",
        "The hard limit of file descriptors against server.max_connections: each connection is one.",
        _files,
        is_early=True,
    ),
    Check(
        "host.tasks",
        "Threads and processes",
        "RLIMIT_NPROC and the control group's pids.max; about 200 are used.",
        _tasks,
        is_early=True,
    ),
    Check(
        "host.sandbox",
        "The decoders' sandbox",
        "Tries in a process of its own what a decoder does before it opens a file: take an empty network namespace, "
        "and "
        "close the file system by Landlock. What is missing there is passed over at run time, so it is said here.",
        _sandbox,
        is_early=True,
        deadline_s=45,
    ),
)
