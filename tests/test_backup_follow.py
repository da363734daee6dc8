"""The continuous copy: nothing acknowledged is missing of what it says that it has, whoever is killed."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance import backup, clock, database
from appliance.backup import follow, records, replay, sealing
from appliance.backup.follow import Status
from appliance.database import Connection, Database
from appliance.errors import BackupError, Misconfigured
from appliance.house import House
from appliance.settings import Backups, Settings

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 120.0


def wait_for(what: Callable[[], Any]) -> Any:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if found := what():
            return found
        time.sleep(0.02)
    raise AssertionError("it never came")


class Following:
    """`customhouse backup follow`, a process of its own."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._log = (settings.home.parent / f"follow-{time.monotonic_ns()}.log").open("wb")
        environ = {
            **os.environ,
            "CUSTOMHOUSE_HOME": str(settings.home),
            "CUSTOMHOUSE_BACKUP_FOLLOW_FOLDER": settings.backup.follow_folder,
            "CUSTOMHOUSE_BACKUP_RECIPIENTS": ",".join(settings.backup.recipients),
        }
        words = [sys.executable, "-m", "appliance", "backup", "follow"]
        self.popen = subprocess.Popen(words, cwd=ROOT, env=environ, stderr=self._log, stdout=self._log)

    def status(self) -> Status | None:
        found = follow.status(self.settings)
        return found if found is not None and found.pid == self.popen.pid else None

    def through(self, at_ms: int) -> Status:
        """Once all that was committed before this moment is on the other disk."""

        def reached() -> Status | None:
            assert self.popen.poll() is None, self.said()
            found = self.status()
            return found if found is not None and found.through_ms >= at_ms else None

        return wait_for(reached)

    def said(self) -> str:
        return Path(self._log.name).read_text()

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.popen.send_signal(number)
        self.popen.wait()
        self._log.close()


@pytest.fixture
def ours(house: House, tmp_path: Path) -> Settings:
    folder = tmp_path / "other-disk"
    return msgspec.structs.replace(house.settings, backup=Backups(follow="on", follow_folder=str(folder)))


@pytest.fixture
def following(ours: Settings) -> Iterator[Callable[..., Following]]:
    begun: list[Following] = []

    def begin(settings: Settings | None = None) -> Following:
        begun.append(Following(settings or ours))
        return begun[-1]

    yield begin
    for one in begun:
        if one.popen.poll() is None:
            one.kill()


def folder_of(settings: Settings) -> Path:
    return Path(settings.backup.follow_folder)


def generations(settings: Settings) -> list[str]:
    return sorted(path.name for path in folder_of(settings).glob("generation-*"))


def table(conn: Connection) -> None:
    conn.execute("CREATE TABLE told (number INTEGER PRIMARY KEY, who TEXT, at INTEGER, filling BLOB)")


def tell(number: int, size: int = 500) -> Callable[[Connection], None]:
    def change(conn: Connection) -> None:
        conn.execute("INSERT INTO told VALUES (?, 'us', ?, randomblob(?))", (number, clock.now_ms(), size))

    return change


def told(into: Path) -> dict[int, int]:
    """Number → when it was told of, in what was laid out."""
    conn = database.look(into / "customhouse.db")
    try:
        assert conn.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        return {row["number"]: row["at"] for row in conn.execute("SELECT number, at FROM told")}
    finally:
        conn.close()


_WRITER = """
import sys, time
from pathlib import Path
from appliance.database import Database
db = Database(Path(sys.argv[1]))
first = int(sys.argv[2])
for number in range(first, first + 10_000_000):
    def change(conn):
        conn.execute("INSERT INTO told VALUES (?, 'w', ?, randomblob(3000))", (number, int(time.time() * 1000)))
        if number % 7 == 0:
            conn.execute("DELETE FROM told WHERE who = 'w' AND number % 7 = 1 AND number < ?", (number - 50,))
    db.write(change)
    sys.stdout.write(f"{number} {time.time() * 1000:.0f}\\n")
    sys.stdout.flush()
"""


def acknowledged(lines: str) -> dict[int, int]:
    """Number → when the writer was told that it is on disk. A line that was cut off is none."""
    found: dict[int, int] = {}
    for line in lines.splitlines(keepends=True):
        if line.endswith("\n"):
            number, at = line.split()
            found[int(number)] = int(at)
    return found


@pytest.mark.parametrize("seed", [1])
def test_of_what_it_says_that_it_has_nothing_is_missing_whoever_is_killed(
    house: House, ours: Settings, following: Callable[..., Following], tmp_path: Path, seed: int
) -> None:
    """Writers and the copy are killed and begun again, the log is emptied by an eraser; in the end everybody is killed
    at once, and the other disk is all that is left."""
    rng = random.Random(seed)
    house.db.write(table)
    one = following()
    files = [tmp_path / f"writer-{number}" for number in range(6)]
    writers: list[subprocess.Popen[bytes]] = []

    def write() -> None:
        at = len(writers)
        with files[at].open("wb") as file:
            words = [sys.executable, "-c", _WRITER, str(house.db.path), str(at * 10_000_000)]
            writers.append(subprocess.Popen(words, cwd=ROOT, stdout=file))
        wait_for(lambda: files[at].stat().st_size > 0)

    try:
        write()
        write()
        one.through(clock.now_ms())
        for _ in range(3):
            victim = rng.choice(["writer", "follower", "eraser"])
            if victim == "writer":
                running = [popen for popen in writers if popen.poll() is None]
                rng.choice(running).kill()
                write()
            elif victim == "follower":
                one.kill()
                one = following()
            else:
                database.empty_log(house.db.path, 5)
            one.through(clock.now_ms())
    finally:
        for popen in writers:
            popen.kill()
        at_kill = clock.now_ms()
        one.kill()
        for popen in writers:
            popen.wait()
    reported = follow.status(ours)
    assert reported is not None
    into = tmp_path / "laid"
    into.mkdir()
    replay.rebuild(folder_of(ours), into)
    found = told(into)
    sure = {number: at for path in files if path.exists() for number, at in acknowledged(path.read_text()).items()}
    deleted = {number for number in sure if number % 7 == 1}
    missing = {number: at for number, at in sure.items() if number not in found}
    lost = {number: at for number, at in missing.items() if number not in deleted}
    assert [at for at in lost.values() if at < reported.through_ms] == []
    assert len(found) > 20
    newest = max(found.values())
    print(
        f"{len(sure)} acknowledged, {len(lost)} lost, the oldest {at_kill - min(lost.values(), default=at_kill)} ms "
        f"before the kill; said {at_kill - reported.through_ms} ms before it, has of {at_kill - newest} ms before it"
    )


def test_any_second_can_be_restored(
    house: House, ours: Settings, following: Callable[..., Following], tmp_path: Path
) -> None:
    house.db.write(table)
    one = following()
    one.through(clock.now_ms())
    moments: list[tuple[int, int]] = []
    for number in range(12):
        house.db.write(tell(number))
        now = clock.now_ms()
        one.through(now + 1)
        moments.append((number, clock.now_ms()))
        wait_for(lambda: clock.now_ms() > moments[-1][1])
    one.kill(signal.SIGTERM)
    for number, at in (moments[0], moments[7], moments[-1]):
        into = tmp_path / f"at-{number}"
        into.mkdir()
        _, made_at = replay.rebuild(folder_of(ours), into, at_ms=at)
        assert set(told(into)) == set(range(number + 1))
        assert made_at <= at
    with pytest.raises(BackupError, match="goes back to"):
        replay.rebuild(folder_of(ours), tmp_path, at_ms=1000)
    elsewhere = msgspec.structs.replace(house.settings, home=tmp_path / "new")
    done = backup.restore(folder_of(ours), elsewhere, at_ms=moments[7][1])
    assert done.counts["told"] == 8
    assert elsewhere.pepper_file.read_bytes() == house.pepper


def test_it_goes_on_where_it_was_killed_as_long_as_the_log_has_the_rest(
    house: House, ours: Settings, following: Callable[..., Following], tmp_path: Path
) -> None:
    house.db.write(table)
    one = following()
    one.through(clock.now_ms())
    house.db.write(tell(1))
    one.through(clock.now_ms())
    one.kill()
    house.db.write(tell(2))
    two = following()
    two.through(clock.now_ms())
    assert len(generations(ours)) == 1
    two.kill()
    house.db.write(tell(3))
    assert database.empty_log(house.db.path, 60)  # of what came meanwhile nothing is left in the log
    house.db.write(tell(4))
    three = following()
    three.through(clock.now_ms())
    assert len(generations(ours)) == 2
    three.kill(signal.SIGTERM)
    into = tmp_path / "laid"
    into.mkdir()
    replay.rebuild(folder_of(ours), into)
    assert set(told(into)) == {1, 2, 3, 4}


def test_an_eraser_gets_to_empty_the_log_while_everybody_writes_and_it_goes_on(
    house: House, ours: Settings, following: Callable[..., Following], tmp_path: Path
) -> None:
    house.db.write(table)
    one = following()
    one.through(clock.now_ms())
    stop, counted = threading.Event(), [0]

    def write() -> None:
        while not stop.is_set():
            house.db.write(tell(counted[0]))
            counted[0] += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(5):
            assert database.empty_log(house.db.path, PATIENCE_S)
            one.through(clock.now_ms())
    finally:
        stop.set()
        thread.join()
    one.through(clock.now_ms())
    one.kill()
    assert len(generations(ours)) == 1
    into = tmp_path / "laid"
    into.mkdir()
    replay.rebuild(folder_of(ours), into)
    assert len(told(into)) == counted[0]


def test_the_log_does_not_grow_without_end_while_it_follows(
    house: House, ours: Settings, following: Callable[..., Following], tmp_path: Path
) -> None:
    house.db.write(table)
    one = following()
    one.through(clock.now_ms())
    for number in range(40):
        house.db.write(tell(number, 1_000_000))
    one.through(clock.now_ms())
    wait_for(lambda: (house.db.write(tell(clock.now_ms())), wal_frames(house.db.path) < 1000)[1])
    one.through(clock.now_ms())
    one.kill()
    assert len(generations(ours)) == 1
    into = tmp_path / "laid"
    into.mkdir()
    replay.rebuild(folder_of(ours), into)
    assert len(told(into)) == house.db.reader().execute("SELECT count(*) FROM told").fetchone()[0]


def wal_frames(path: Path) -> int:
    conn = database.connect(path)
    try:
        return int(conn.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1])
    finally:
        conn.close()


def test_records_are_sealed_when_backups_are(
    house: House, ours: Settings, following: Callable[..., Following], tmp_path: Path
) -> None:
    identity, public = sealing.generate()
    (tmp_path / "identity").write_text(identity)
    sealed = msgspec.structs.replace(ours, backup=msgspec.structs.replace(ours.backup, recipients=[public]))
    house.db.write(table)
    one = following(sealed)
    one.through(clock.now_ms())
    house.db.write(tell(1))
    one.through(clock.now_ms())
    one.kill()
    into = tmp_path / "laid"
    into.mkdir()
    with pytest.raises(BackupError, match="--identity"):
        replay.rebuild(folder_of(ours), into)
    replay.rebuild(folder_of(ours), into, identity=sealing.identity(tmp_path / "identity"))
    assert set(told(into)) == {1}


def test_a_damaged_record_is_found_and_what_is_before_it_can_be_had(
    house: House, ours: Settings, following: Callable[..., Following], tmp_path: Path
) -> None:
    house.db.write(table)
    one = following()
    one.through(clock.now_ms())
    for number in range(3):
        house.db.write(tell(number))
        one.through(clock.now_ms())
    one.kill()
    place = folder_of(ours) / generations(ours)[0]
    first = {path: path.read_bytes() for path in place.glob("segment-*.log")}
    path, whole = max(first.items())
    heads = [record.head for record in records.read(place)]
    ends = [record.end for record in records.read(place)]
    rng = random.Random(3)
    for at in [ends[-2] + 5, *(rng.randrange(ends[-2], ends[-1]) for _ in range(10))]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        into = tmp_path / f"laid-{at}-{rng.random()}"
        into.mkdir()
        with contextlib.suppress(BackupError):  # a length that now ends past the file is taken for cut off
            replay.rebuild(folder_of(ours), into)
            assert set(told(into)) < {0, 1, 2}
        good = tmp_path / f"good-{at}-{rng.random()}"
        good.mkdir()
        replay.rebuild(folder_of(ours), good, at_ms=heads[-2].at_ms)
        assert 2 not in told(good)
    path.write_bytes(whole[: ends[-1] - 3])  # as a crash cuts it
    into = tmp_path / "cut"
    into.mkdir()
    replay.rebuild(folder_of(ours), into)
    assert set(told(into)) == {0, 1}


def test_a_whole_copy_is_made_again_and_what_nobody_can_ask_for_any_more_goes(
    house: House, ours: Settings, tmp_path: Path
) -> None:
    """With two seconds for a day."""
    hasty = msgspec.structs.replace(ours, backup=msgspec.structs.replace(ours.backup, follow_hours=2 / 3600))
    house.db.write(table)
    dead = folder_of(ours) / "generation-20200101T000000Z-0000"
    dead.mkdir(parents=True)
    stop = threading.Event()
    thread = threading.Thread(target=follow.follow, args=(hasty, stop))
    thread.start()
    number = 0
    try:
        firsts: set[str] = set()

        def turned() -> bool:
            nonlocal number
            house.db.write(tell(number))
            number += 1
            bases = {path.name for path in folder_of(ours).glob("generation-*/base-*.json")}
            firsts.update(bases)
            return len(firsts) >= 4 and len(bases) < len(firsts)

        wait_for(turned)
        assert not dead.exists()
    finally:
        stop.set()
        thread.join()
    (window,) = replay.windows(folder_of(ours))
    assert len(list(window.folder.glob("customhouse-*.tar.gz"))) <= len(window.bases) + 1  # and one in the making
    into = tmp_path / "laid"
    into.mkdir()
    replay.rebuild(folder_of(ours), into)
    assert set(told(into)) == set(range(number))


def test_where_to_has_to_be_said(house: House) -> None:
    with pytest.raises(Misconfigured, match="follow_folder"):
        follow.follow(house.settings, threading.Event())


def test_a_folder_that_cannot_be_written_holds_nobody_up(house: House, ours: Settings, tmp_path: Path) -> None:
    house.db.write(table)
    (tmp_path / "a-file").write_text("")
    wrong = msgspec.structs.replace(ours, backup=Backups(follow="on", follow_folder=str(tmp_path / "a-file" / "below")))
    stop = threading.Event()
    thread = threading.Thread(target=follow.follow, args=(wrong, stop))
    thread.start()
    try:
        found = wait_for(lambda: (found := follow.status(ours)) and found.error and found)
        assert found.through_ms == 0
        house.db.write(tell(1))
        assert database.empty_log(house.db.path, PATIENCE_S)
    finally:
        stop.set()
        thread.join()


def test_the_index_of_the_log_says_what_sqlite_says(house: House) -> None:
    from appliance.backup import wal

    house.db.write(table)
    log = wal.Log(house.db.path)
    for number in range(5):
        house.db.write(tell(number))
        index = log.index()
        raw = log.read(1, index.frames, index.page_size)
        little = wal.is_little(log.header())
        taken = list(wal.frames(raw, index.page_size, index.salts, log.sum_at(0, index.page_size), little=little))
        assert len(taken) == index.frames
        assert taken[-1].pages > 0
        assert log.sum_at(index.frames, index.page_size) == index.last
    damaged = bytearray(raw)
    damaged[len(raw) // 2] ^= 1
    with pytest.raises(BackupError):
        list(wal.frames(bytes(damaged), index.page_size, index.salts, log.sum_at(0, index.page_size), little=little))


def test_two_do_not_follow_one_house(house: House, ours: Settings, following: Callable[..., Following]) -> None:
    one = following()
    one.through(clock.now_ms())
    with pytest.raises(BackupError, match="running already"):
        follow.follow(ours, threading.Event())


def test_the_state_is_told_in_json(house: House, ours: Settings, following: Callable[..., Following]) -> None:
    one = following()
    found = one.through(clock.now_ms())
    assert json.loads(follow.status_file(ours).read_bytes())["generation"] == found.generation
    assert Database(house.db.path).path == house.db.path
