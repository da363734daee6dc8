"""A reduced round of the campaign in tests/faults: some 300 faults in real processes, and nothing that was accepted is
lost. `python -m tests.faults --full` injects 10,000."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults import enumerated, shim
from tests.faults.__main__ import campaign
from tests.faults.box import Box
from tests.faults.live import SCENARIOS
from tests.faults.nursery import Fault
from tests.faults.report import Record, Report
from tests.faults.shim import Act, Op, Shim


def test_three_hundred_faults_lose_nothing(tmp_path: Path) -> None:
    """Where there is no C compiler, or no namespace, the report says what was left out, and why."""
    said: list[str] = []
    report = campaign(tmp_path, 340, seed=6, say=said.append)
    print(report.table())
    assert report.complaints() == "", "\n".join(said)
    assert report.lost == 0
    if "failing calls and clock jumps" in report.left_out:
        pytest.skip(f"{len(report.records)} faults only: {report.left_out}")
    assert len(report.records) >= 300, report.table()
    kinds = {one.kind for one in report.records}
    assert set(SCENARIOS) <= kinds
    assert {"EIO of a write", "ENOSPC of a write", "EIO of a sync", "EROFS of any call", "write cut short"} <= kinds
    assert {"killed at a system call", "killed in the middle of a write", "power cut"} <= kinds
    assert report.accepted > 300


def test_a_campaign_finds_what_is_lost(tmp_path: Path) -> None:
    """The checks can fail: a job that was accepted is taken away behind the house's back, and a webhook told anew."""
    library = shim.compiled(tmp_path)
    if library is None:
        pytest.skip("there is no C compiler here to make the shim with")
    bench = enumerated.Bench(tmp_path, library)
    try:
        bench.run([Fault(Op.ANY, Act.COUNT, 1, "")])
        assert [one for one in bench.records if one.wrong] == []
        bench.unsettled.append("00000000-0000-0000-0000-000000000000")
        bench.there += 1
        bench.settle()
        [found] = [one for one in bench.records if one.wrong]
        assert found.wrong["lost"] == ["00000000-0000-0000-0000-000000000000"]
        assert "jobs that nobody was told of" in found.wrong
        bench.promised[999] = ("never", [])
        bench.receiver.got[next(iter(bench.receiver.got))][b"another body"] += 1
        assert set(bench.untold()) == {"webhooks never told", "webhooks told two ways"}
    finally:
        bench.close()


def test_what_is_kept_away_is_not_started_by_who_had_seen_it_dead_before(tmp_path: Path) -> None:
    """2026-11-22: now and then a worker was begun anew within, and its absence waited for in vain."""
    box = Box(tmp_path, None)
    try:
        for _ in range(4):
            box.send("work")
            time.sleep(0.12)  # it is seen, and about to be started
            with box.away("work"):
                time.sleep(0.4)
                assert not box.is_alive("work")
            box.until("the worker is back", lambda: box.is_alive("work"))
        assert box.settle() == {}
    finally:
        box.close()


def test_the_shim_strikes_the_call_it_is_told_and_no_other(tmp_path: Path) -> None:
    library = shim.compiled(tmp_path)
    if library is None:
        pytest.skip("there is no C compiler here to make the shim with")
    home = tmp_path / "home"
    home.mkdir()
    control = Shim(tmp_path / "control")
    control.arm(Op.WRITE, Act.FAIL, at=2, has="struck", error=errno.ENOSPC)
    script = """
import os, sys
for name in ("struck", "other"):
    file = os.open(os.path.join(sys.argv[1], name), os.O_WRONLY | os.O_CREAT)
    for number in range(3):
        try:
            os.write(file, b"12345678")
        except OSError as error:
            print(name, number, error.errno)
"""
    assert _under(library, control, home, script) == f"struck 1 {errno.ENOSPC}\n"
    assert (control.seen, control.disarm(), control.last) == (3, 1, "/struck")
    control.arm(Op.WRITE, Act.SHORTEN, at=1, has="struck")
    short = "import os, sys; print(os.write(os.open(sys.argv[1] + '/struck', os.O_WRONLY), b'12345678'))"
    assert _under(library, control, home, short) == "4\n"
    control.disarm()
    control.turn(-86_400_000)
    assert abs(float(_under(library, control, home, "import time; print(time.time())")) - time.time() + 86_400) < 60


def test_a_fault_that_was_not_survived_says_how_to_have_it_again() -> None:
    fault = Fault(Op.WRITE, Act.FAIL, 7, "customhouse.db", errno.EIO)
    report = Report(1, 2.0, 3, 4, [Record("EIO of a write", str(fault), {"lost": ["a"]}, 1.0, enumerated.again(fault))])
    assert report.lost == 1
    assert '--only \'{"op":1,"act":1,"at":7' in report.complaints()
    assert "EIO of a write" in report.table()


def _under(library: Path, control: Shim, home: Path, script: str) -> str:
    environ = {**os.environ, **control.environ(library, home)}
    ran = subprocess.run(
        [sys.executable, "-c", script, str(home)], env=environ, check=True, capture_output=True, text=True
    )
    return ran.stdout
