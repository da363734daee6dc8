"""The machine restarts in mid-upgrade: `customhouse release activate` and `rollback`, by real copies of this tree, are
killed at a write, sync or rename drawn by the seed, whichever of their processes makes it. Then it is resumed.

tests/test_release.py kills it at every step that it names; here it is anywhere between.
"""

import random
import time
from pathlib import Path

from appliance import database, installed
from appliance.release import journal, release
from tests import releases
from tests.faults.report import Record
from tests.faults.shim import Act, Op, Shim
from tests.test_upgrade import job_id, used

KIND = "restart in mid-upgrade"
_OLD, _NEW = "0.1.0", "0.2.0"
_OPS = Op.WRITE | Op.SYNC | Op.RENAME | Op.REMOVE
_JOBS = 12


def run(folder: Path, library: Path, seed: int, count: int) -> list[Record]:
    """So many, in turn on the way there and on the way back."""
    prefix = folder / "prefix"
    folder.mkdir()
    releases.lay(prefix, _OLD)
    releases.lay(prefix, _NEW, is_migrating=True)
    (prefix / "home").mkdir(mode=0o750)
    used(prefix / "home" / "customhouse.db")
    releases.run(prefix, _OLD, "release", "activate", _OLD)
    shim = Shim(folder / "upgrades.control")
    under = shim.environ(library, prefix)
    rng = random.Random(f"{seed} upgrades")
    totals: dict[str, int] = {}
    for way, words in (("there", _there()), ("back", _back())):
        shim.arm(_OPS, Act.COUNT)
        releases.run(prefix, *words, **under)
        totals[way] = shim.seen
        shim.disarm()
    records: list[Record] = []
    for number in range(count):
        way = "there" if installed.current(prefix) == _OLD else "back"
        act, at = rng.choice((Act.KILL_BEFORE, Act.KILL_AFTER, Act.TEAR)), rng.randint(1, totals[way])
        begun = time.monotonic()
        shim.arm(_OPS, act, at=at)
        releases.run(prefix, *(_there() if way == "there" else _back()), check=False, **under)
        last, struck = shim.last, shim.disarm()
        wrong = _after(prefix)
        if struck:
            what = f"{act.name.lower()} #{at} on the way {way} ({last})"
            again = f"--seed {seed} --scenario '{KIND}' --faults {count * 100}"
            records.append(Record(KIND, f"{number}: {what}", wrong, time.monotonic() - begun, again))
        if way == "there" and installed.current(prefix) == _OLD and number % 2:
            releases.run(prefix, *_there())  # so that the way back has its turn
    return records


def _there() -> tuple[str, ...]:
    return _NEW, "release", "activate", _NEW, "--json"


def _back() -> tuple[str, ...]:
    return "current", "rollback", "--json"


def _after(prefix: Path) -> dict[str, list[str]]:
    """What starts after the restart finishes or undoes it; then version and tables belong together, nothing is lost."""
    wrong: dict[str, list[str]] = {}
    resumed = releases.run(prefix, "current", "release", "resume", "--json", check=False)
    if resumed.returncode:
        wrong["not resumed"] = [resumed.stderr[-500:]]
    path = prefix / "home" / "customhouse.db"
    if journal.read(prefix) is not None:
        wrong["left undone"] = [str(journal.read(prefix))]
    if database.applied(path)[-1] != release.read(prefix / "current").schema:
        wrong["version and tables"] = [f"{installed.current(prefix)} over {database.applied(path)[-1]}"]
    if not releases.is_sound(path):
        wrong["the database"] = ["integrity_check or foreign_key_check"]
    conn = database.look(path)
    stood = {row["id"] for row in conn.execute("SELECT id FROM job")}
    conn.close()
    if lost := sorted({job_id(number) for number in range(_JOBS)} - stood):
        wrong["lost"] = lost
    return wrong
