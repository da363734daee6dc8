"""What the campaign of faults (tests/faults) found, each by itself: how it was, and that it is not so any more."""

import errno
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient
from msgspec import json, structs

from appliance import clock, database, heartbeat
from appliance.api import form
from appliance.api.form import Upload
from appliance.database import Connection, Database
from appliance.errors import Misconfigured, Unavailable
from appliance.house import House
from appliance.inference.client import Models
from appliance.jobs import rows
from appliance.media.decoders import Decoders
from appliance.outbound import Outbound
from appliance.settings import Settings
from appliance.tasks import Lanes
from appliance.text.engine import Engine
from appliance.work.hands import Hands
from appliance.work.runner import Runner
from appliance.work.sweep import Sweep
from tests.cast import Person
from tests.kills import picture


class Narrow(io.RawIOBase):
    """Takes seven bytes at a time, as a disk takes less than all where it ends."""

    def __init__(self) -> None:
        self.got = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.got += bytes(data[:7])
        return min(7, len(data))


def test_an_upload_is_stored_whole_though_the_disk_takes_it_in_pieces() -> None:
    """2026-11-21: half a picture was accepted, judged as damaged and charged for, when a write was cut short."""
    narrow = Narrow()
    form._write(narrow, b"a picture of forty bytes, or nearly so")  # type: ignore[arg-type]
    assert narrow.got == b"a picture of forty bytes, or nearly so"


def test_a_disk_that_turned_read_only_is_a_503_and_not_a_500(
    client: TestClient[Any], house: House, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2026-11-21: the half upload could not be removed either, and that was what the caller heard: a 500."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(form._Parts, "finish", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    answer = client.post("/api/v1/moderate/image", files={"image_file": ("a.png", picture(1))}, headers=alice.headers)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    assert house.db.reader().execute("SELECT count(*) FROM job").fetchone()[0] == 0


def test_an_upload_that_cannot_be_removed_is_left_to_sweep(tmp_path: Path) -> None:
    upload = Upload(tmp_path / "gone", "image_file")
    (tmp_path / "gone").write_text("no folder: unlink raises NotADirectoryError")
    upload.discard()


def test_the_writer_outlives_a_file_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """2026-11-21: its thread ended, and every write after that waited for ever."""
    path = tmp_path / "customhouse.db"
    database.migrate(path)
    real = database.connect

    def failing(*_: object, **__: object) -> Connection:
        raise database.OperationalError("disk I/O error")

    monkeypatch.setattr(database, "connect", failing)
    db = Database(path)
    with pytest.raises(Unavailable, match="disk I/O error"):
        db.write(lambda conn: None)
    assert db.trouble == "disk I/O error"
    monkeypatch.setattr(database, "connect", real)
    assert db.write(lambda conn: 7) == 7
    assert db.trouble == ""
    db.close()


def test_health_says_that_nothing_can_be_written_and_finds_out_by_itself_when_it_can(
    client: TestClient[Any], house: House
) -> None:
    """2026-11-21: with a disk that failed every write /health answered that all was well."""
    full = "PRAGMA max_page_count = 1"  # a full disk, to the writer's connection
    house.db.write(lambda conn: conn.execute(full).fetchone())

    def much(conn: Connection) -> None:
        conn.execute("CREATE TABLE much (content BLOB)")
        conn.execute("INSERT INTO much VALUES (zeroblob(1000000))")

    with pytest.raises(Unavailable, match="full"):
        house.db.write(much)
    time.sleep(1.1)  # health looks once a second
    said = client.get("/health").json()
    assert any("cannot be written" in sentence and "full" in sentence for sentence in said["degraded"])
    _until(lambda: "cannot be written" not in str(client.get("/health").json()["degraded"]))


def test_health_says_that_somebody_holds_the_lock(
    client: TestClient[Any], house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_SLOW_S", 0.2)
    blocker = database.connect(house.db.path)
    blocker.execute("BEGIN IMMEDIATE")
    waiting = threading.Thread(target=house.db.write, args=(lambda conn: None,))
    waiting.start()
    _until(lambda: "holds the lock" in str(client.get("/health").json()["degraded"]))
    blocker.execute("ROLLBACK")
    waiting.join(60)
    _until(lambda: "holds the lock" not in str(client.get("/health").json()["degraded"]))
    blocker.close()


def test_health_says_that_the_worker_hangs(client: TestClient[Any], house: House) -> None:
    """2026-11-21: a worker that was stopped (SIGSTOP) held its doorbells, and /health called all well for ever."""
    heart = heartbeat.Heart(house.settings.run_dir, 1)
    lanes = Lanes(house.settings)
    lanes.start({"prompts": 1, "media": 1, "webhooks": 1})
    heart.beat()
    assert "hangs" not in str(client.get("/health").json()["degraded"])
    said = heartbeat.last(house.settings.run_dir)
    assert said is not None
    late = structs.replace(said, at=said.at - heartbeat.LATE_MS - 5_000)
    heartbeat.path_in(house.settings.run_dir).write_bytes(json.encode(late))
    _until(
        lambda: (
            "The worker hangs, or cannot write: no sign of life for 2" in str(client.get("/health").json()["degraded"])
        )
    )
    heart.beat()
    _until(lambda: "hangs" not in str(client.get("/health").json()["degraded"]))
    lanes.stop(60)
    lanes.close()


@pytest.fixture
def sweep(house: House) -> Iterator[Sweep]:
    lanes = Lanes(house.settings)
    models, decoders = Models(house.settings.inference_socket, 1.0), Decoders(house.settings)
    hands = Hands(house, models, decoders, Outbound([]), Engine(house))
    yield Sweep(Runner(hands, lanes.follow), lanes)
    decoders.close()
    lanes.close()


def child_of(house: House, alice: Person, client: TestClient[Any]) -> int:
    """The one child of a prompt that was accepted."""
    answer = client.post("/api/v1/moderate/prompt", data={"prompt": "a harbour"}, headers=alice.headers)
    assert answer.status_code == 202
    return int(house.db.reader().execute("SELECT id FROM child").fetchone()[0])


DAY_MS = 86_400_000


def test_what_waits_by_a_clock_that_was_set_back_is_brought_forward(
    house: House, alice: Person, client: TestClient[Any], sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2026-11-21: the clock went forward by a day and back. What had been put back, or held by a worker that died,
    meanwhile waited for a day; the webhooks as well."""
    child = child_of(house, alice, client)
    real, ahead = clock.now_ms, [DAY_MS]
    monkeypatch.setattr(clock, "now_ms", lambda: real() + ahead[0])
    sweep.once()

    def wait(conn: Connection) -> None:
        conn.execute("UPDATE child SET not_before = ? WHERE id = ?", (clock.now_ms() + 3_000, child))

    house.db.write(wait)
    ahead[0] = 0
    sweep.once()
    (due,) = house.db.reader().execute("SELECT not_before FROM child").fetchone()
    assert due <= real() + 3_000


def emptied(house: House) -> None:
    """What was said to the worker is lost."""
    with database.connect(house.settings.queue) as conn:
        conn.execute("DELETE FROM task")


def test_a_job_accepted_by_a_clock_that_was_set_back_is_found_when_its_message_is_lost(
    house: House, alice: Person, client: TestClient[Any], sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2026-11-22: it lay there until the clock had come to where it was accepted."""
    real, ahead = clock.now_ms, [DAY_MS]
    monkeypatch.setattr(clock, "now_ms", lambda: real() + ahead[0])
    child_of(house, alice, client)
    sweep.once()
    ahead[0] = 0
    emptied(house)
    sweep.once()
    assert sweep._lanes.depth("prompts") == 1


def test_what_fell_due_while_a_set_back_clock_was_not_noticed_yet_is_begun_at_once(
    house: House, alice: Person, client: TestClient[Any], sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2026-11-22: the sweep had looked at everything up to tomorrow, and passed it over until all lanes were empty."""
    child = child_of(house, alice, client)
    real, ahead = clock.now_ms, [DAY_MS]
    monkeypatch.setattr(clock, "now_ms", lambda: real() + ahead[0])
    sweep.once()
    ahead[0] = 0
    house.db.write(lambda conn: conn.execute("UPDATE child SET not_before = ? WHERE id = ?", (real() - 100, child)))
    emptied(house)
    sweep.once()
    assert sweep._lanes.depth("prompts") == 1


def test_a_worker_that_starts_takes_over_whatever_the_clock_said_before(
    house: House, alice: Person, client: TestClient[Any], sweep: Sweep
) -> None:
    child = child_of(house, alice, client)
    ahead = clock.now_ms() + DAY_MS
    job_id = house.db.reader().execute("SELECT job_id FROM child").fetchone()[0]
    house.db.write(lambda conn: rows.claim(conn, job_id, "dead", 1, clock.now_ms(), ahead))
    sweep.begin()
    found = house.db.reader().execute("SELECT status, not_before FROM child WHERE id = ?", (child,)).fetchone()
    assert found["status"] == "queued"
    assert found["not_before"] <= clock.now_ms() + 60_000


def test_a_clock_that_jumps_forward_takes_nothing_out_of_hands_that_work_on_it(
    house: House, alice: Person, client: TestClient[Any], sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2026-11-21: every job in hand lost a try, and was done twice."""
    child_of(house, alice, client)
    job_id = house.db.reader().execute("SELECT job_id FROM child").fetchone()[0]
    name = sweep._runner.leases.take()
    house.db.write(lambda conn: rows.claim(conn, job_id, name, 1, clock.now_ms(), clock.now_ms() + 60_000))
    real = clock.now_ms
    monkeypatch.setattr(clock, "now_ms", lambda: real() + DAY_MS)
    sweep.once()
    assert tuple(house.db.reader().execute("SELECT status, worker FROM child").fetchone()) == ("processing", name)


def _until(is_so: Any) -> None:
    until = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.1)


def test_a_database_that_cannot_be_written_at_start_is_a_sentence(tmp_path: Path) -> None:
    """2026-11-21: on a disk that had turned read-only, and on a full one, every process ended with a traceback."""
    (tmp_path / "customhouse.migrate").mkdir()  # cannot be opened to be written, whoever asks
    with pytest.raises(Misconfigured, match=r"cannot be opened to be written \(.*full or read-only"):
        House(Settings(home=tmp_path))
