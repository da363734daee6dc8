"""`python -m tests`: every check, in one command. `./install.sh test` is the same with the set-up in front.

Arguments go on to pytest (`-k webhook`, a file). `--fix` formats and mends what can be mended first; `--golden`
rewrites the golden files from what the code says now: read the diff. All checks run, whatever fails; the exit code
is 0 only if none did.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_MOST_PROCESSES = 8  # each may have a server with the starter weights beside it, 1.2 GB
SCRIPTS = ["install.sh", ".ci/run", *sorted(map(str, (ROOT / "systemd" / "install").glob("*.sh")))]


def main(arguments: list[str]) -> int:
    """Run them and return the exit code. pytest comes last, so that its own closing line is near the end."""
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return 0
    is_fixing = "--fix" in arguments
    environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environ["PYRIGHT_PYTHON_IGNORE_WARNINGS"] = "1"  # or it asks a registry whether there is a newer one
    if "--golden" in arguments:
        environ["CUSTOMHOUSE_TEST_GOLDEN"] = "1"
    results = [
        (name, *_run(name, command, environ))
        for name, command in _checks(is_fixing, [one for one in arguments if one not in ("--fix", "--golden")])
    ]
    print()
    for name, code, seconds in results:
        print(f"{'ok    ' if code == 0 else 'FAILED'}  {name:<16} {seconds:7.1f} s")
    return int(any(code for _, code, _ in results))


def _checks(is_fixing: bool, arguments: list[str]) -> Iterator[tuple[str, list[str]]]:
    python = sys.executable
    if is_fixing:
        yield "lint, mending", ["ruff", "check", "--fix", "--quiet"]
        yield "formatting", ["ruff", "format"]
    else:
        yield "format", ["ruff", "format", "--check"]
    yield "lint", ["ruff", "check"]
    yield "types", ["pyright", "--pythonpath", python]
    yield "import contract", ["lint-imports", "--no-logo"]
    yield "shellcheck", ["shellcheck", "-x", *SCRIPTS]
    yield "pytest", [python, "-m", "pytest", *(arguments or _shared_out())]


def _shared_out() -> list[str]:
    """The whole suite, by a process for each core: most tests wait, for a disk, a socket or a screen."""
    return ["-n", str(min(len(os.sched_getaffinity(0)), _MOST_PROCESSES)), "--dist", "worksteal", "--durations", "20"]


def _run(name: str, command: list[str], environ: dict[str, str]) -> tuple[int, float]:
    print(
        f"\n== {name}: {' '.join(Path(part).name if part == sys.executable else part for part in command)}", flush=True
    )
    started = time.monotonic()
    code = subprocess.run(command, cwd=ROOT, env=environ).returncode
    return code, time.monotonic() - started


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
