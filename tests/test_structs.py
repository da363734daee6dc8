"""Reading into a Struct for the first time, from several threads at once."""

import subprocess
import sys

import pytest

# 2026-11-21: a worker that started while jobs waited ended with a segmentation fault; two of its threads were reading
# their first row. Many types, each read into for the first time by eight threads, make that certain.
RACE = """
import sys, threading
import msgspec
from appliance import structs

sys.setswitchinterval(1e-6)
for _ in range(200):
    class Inner(msgspec.Struct, frozen=True):
        names: list[str]
        more: dict[str, int] = {}
    class Outer(msgspec.Struct, frozen=True):
        number: int
        word: str | None
        inner: Inner
        rest: dict[str, object]
    if sys.argv[1] == "prepared":
        structs.prepare()
    gate = threading.Barrier(8)
    def read():
        gate.wait()
        msgspec.convert({"number": 1, "word": None, "inner": {"names": ["x"]}, "rest": {}}, Outer)
    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def test_structs_that_are_prepared_can_be_read_into_by_many_threads_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", RACE, "prepared"], capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_library_still_needs_that() -> None:
    """When this fails, appliance/structs.py may go."""
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", RACE, "unprepared"], capture_output=True, text=True, timeout=60)
        if done.returncode == -11:
            return
    pytest.fail("msgspec no longer crashes when threads read into a Struct for the first time together")
