"""The way back: what a restore puts in place, what it refuses, what it leaves as it was, and what stays erased."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlite_utils
from click.testing import CliRunner

from appliance import backup, clock, database, schema, tombstones
from appliance.accounts import keys, organisations
from appliance.backup import restoring, shelf
from appliance.commands.backup import backup as command
from appliance.errors import BackupError, Unauthorized
from appliance.house import House
from appliance.services import Nobody
from appliance.settings import Retention, Settings
from appliance.work import erase
from appliance.work.erase import Scope
from tests.cast import Person, enrol
from tests.test_retention import close, prompt

ROOT = Path(__file__).resolve().parent.parent
WHO: dict[str, Any] = {"actor": "operator:test", "reason": "asked by the person"}
PATIENCE_S = 60.0


def shut(house: House) -> None:
    """As when the process has ended."""
    house.db.reader().close()
    house.close()


def jobs(settings: Settings) -> set[str]:
    conn = database.look(settings.database)
    try:
        return {row["id"] for row in conn.execute("SELECT id FROM job")}
    finally:
        conn.close()


def tree(home: Path) -> dict[str, bytes]:
    """What a person would call the state, byte by byte."""
    return {
        path.relative_to(home).as_posix(): path.read_bytes()
        for path in home.rglob("*")
        if path.is_file() and path.name in ("customhouse.db", "pepper", "customhouse.db-wal")
    }


# --- in place --------------------------------------------------------------------------------------------------------


def test_the_house_is_as_it_was_and_what_was_there_is_kept_aside(house: House, alice: Person) -> None:
    settings = house.settings
    first = prompt(house, alice, "a lighthouse")
    close(house, first)
    made = backup.create(settings)
    later = prompt(house, alice, "a harbour")
    close(house, later)
    shut(house)
    settings.queue.write_bytes(b"what Huey knows")
    done = backup.restore(made.path, settings)
    assert jobs(settings) == {first}
    assert done.replaced is not None
    assert jobs(msgspec.structs.replace(settings, home=done.replaced)) == {first, later}
    assert (done.replaced / "pepper").read_bytes() == settings.pepper_file.read_bytes()
    assert not settings.queue.exists()
    assert [path.name for path in settings.home.glob(".restore-*")] == []
    again = House(settings)
    assert keys.recognise(again.db.reader(), again.pepper, alice.key).org_id == alice.org_id
    line = again.db.reader().execute("SELECT * FROM audit WHERE action = 'backup.restored'").fetchone()
    assert line["subject"] == made.path.name
    shut(again)


def test_on_an_empty_machine_it_makes_the_house(house: House, alice: Person, tmp_path: Path) -> None:
    close(house, prompt(house, alice, "a lighthouse"))
    made = backup.create(house.settings)
    elsewhere = msgspec.structs.replace(house.settings, home=tmp_path / "new")
    done = backup.restore(made.path, elsewhere)
    assert done.replaced is None
    assert jobs(elsewhere) == jobs(house.settings)
    assert elsewhere.pepper_file.read_bytes() == house.pepper
    assert elsewhere.pepper_file.stat().st_mode & 0o777 == 0o600
    assert list(elsewhere.home.glob("replaced-*")) == []


def test_a_log_of_the_old_house_is_not_played_into_the_new_one(house: House, alice: Person) -> None:
    """A copy of the folder taken while it was open has one, as after a power cut."""
    close(house, prompt(house, alice, "a lighthouse"))
    made = backup.create(house.settings)
    close(house, prompt(house, alice, "a harbour"))
    cut = msgspec.structs.replace(house.settings, home=house.settings.home.parent / "cut")
    cut.home.mkdir()
    for path in house.settings.home.glob("customhouse.db*"):
        (cut.home / path.name).write_bytes(path.read_bytes())
    assert (cut.home / "customhouse.db-wal").stat().st_size > 0
    done = backup.restore(made.path, cut)
    assert len(jobs(cut)) == 1
    assert done.replaced is not None
    assert len(jobs(msgspec.structs.replace(cut, home=done.replaced))) == 2
    assert not (cut.home / "customhouse.db-wal").exists()


def test_a_house_whose_database_is_ruined_is_restored_all_the_same(house: House, alice: Person) -> None:
    close(house, prompt(house, alice, "a lighthouse"))
    made = backup.create(house.settings)
    shut(house)
    house.settings.database.write_bytes(b"this is no database" * 1000)
    (house.settings.home / "customhouse.db-wal").write_bytes(b"nor is this a log")
    done = backup.restore(made.path, house.settings)
    assert len(jobs(house.settings)) == 1
    assert done.replaced is not None
    assert (done.replaced / "customhouse.db-wal").read_bytes() == b"nor is this a log"


def test_settings_that_differ_are_laid_beside(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "customhouse.toml"
    config.write_text("[server]\nport = 8123\n")
    monkeypatch.setenv("CUSTOMHOUSE_CONFIG", str(config))
    made = backup.create(house.settings)
    config.write_text("[server]\nport = 9000\n")
    shut(house)
    done = backup.restore(made.path, house.settings)
    assert done.files is not None
    assert (done.files / "customhouse.toml").read_text() == "[server]\nport = 8123\n"
    assert [path.name for path in done.files.iterdir()] == ["customhouse.toml"]
    assert config.read_text() == "[server]\nport = 9000\n"


# --- what is refused, and what fails ---------------------------------------------------------------------------------


def test_it_is_refused_while_anybody_has_the_database_open(house: House, alice: Person) -> None:
    made = backup.create(house.settings)
    close(house, prompt(house, alice, "a lighthouse"))
    with pytest.raises(BackupError, match="in use"):
        backup.restore(made.path, house.settings)
    assert len(jobs(house.settings)) == 1
    shut(house)
    other = subprocess.Popen(
        [sys.executable, "-c", _READER, str(house.settings.database)], stdout=subprocess.PIPE, cwd=ROOT
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(BackupError, match=rf"process {other.pid}"):
            backup.restore(made.path, house.settings)
    finally:
        other.kill()
        other.communicate()
    backup.restore(made.path, house.settings)
    assert jobs(house.settings) == set()


_READER = """
import sys, time
from pathlib import Path
from appliance import database
conn = database.look(Path(sys.argv[1]))
conn.execute("SELECT count(*) FROM job").fetchone()
print("open", flush=True)
time.sleep(600)
"""


class Recorded(Nobody):
    """Services that only remember."""

    kind = "recorded"

    def __init__(self, *running: str) -> None:
        self.said: list[tuple[str, ...]] = []
        self._running = running

    def start(self, *names: str) -> None:
        self.said.append(("start", *names))

    def stop(self, *names: str) -> None:
        self.said.append(("stop", *names))

    def is_active(self, name: str) -> bool:
        return name in self._running

    def is_meant(self, name: str) -> bool:
        return name in self._running


def test_what_it_stopped_it_starts_again_also_when_it_fails(house: House) -> None:
    made = backup.create(house.settings)
    enrol(house, "B", "one who has written")
    services = Recorded("api", "worker")
    with pytest.raises(BackupError, match="in use"):  # by us
        backup.restore(made.path, house.settings, services=services)
    assert [said[0] for said in services.said] == ["stop", "start"]
    assert sorted(services.said[1][1:]) == ["api", "worker"]
    shut(house)
    done = backup.restore(made.path, house.settings, services=Recorded("api"))
    assert done.stopped == ["api"]


@pytest.mark.parametrize("at", ["before", "pepper", "look"])
def test_what_fails_leaves_the_old_house(house: House, alice: Person, at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = backup.create(house.settings)
    close(house, prompt(house, alice, "a lighthouse"))
    shut(house)
    house.settings.pepper_file.write_bytes(b"another pepper, of today, 32 bytes")
    before = tree(house.settings.home)

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    given: dict[str, Any] = {}
    if at == "before":
        given["before_swap"] = fail
    elif at == "look":
        monkeypatch.setattr(restoring, "_look", fail)
    else:
        replaced = os.replace

        def replace(source: Any, target: Any) -> None:
            if Path(target) == house.settings.database and ".restore-" in str(source):
                fail()
            replaced(source, target)

        monkeypatch.setattr(os, "replace", replace)
    with pytest.raises((BackupError, OSError)):
        backup.restore(made.path, house.settings, **given)
    monkeypatch.undo()
    assert tree(house.settings.home).keys() == before.keys()
    assert house.settings.pepper_file.read_bytes() == before["pepper"]
    assert len(jobs(house.settings)) == 1
    assert list(house.settings.home.glob("replaced-*")) == []
    assert not (house.settings.home / "restore.json").exists()
    backup.restore(made.path, house.settings)
    assert jobs(house.settings) == set()


_KILLED = """
import os, signal, sys
from pathlib import Path
from appliance import backup, settings
from appliance.backup import restoring
def counting(real):
    def call(*given, **named):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*given, **named)
    return call
def armed():
    os.link, os.replace, Path.rename, Path.unlink = map(counting, (os.link, os.replace, Path.rename, Path.unlink))
for step in range(1, 60):
    home = Path(sys.argv[1]) / f"step-{step}"
    home.mkdir()
    (home / "customhouse.db").write_bytes((Path(sys.argv[2]) / "customhouse.db").read_bytes())
    (home / "pepper").write_bytes(b"another pepper, of today, 32 bytes")
    child = os.fork()
    if child == 0:
        left = step
        backup.restore(Path(sys.argv[3]), settings.load(environ={"CUSTOMHOUSE_HOME": str(home)}), before_swap=armed)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
print(step)
"""


def test_killed_at_every_step_of_the_swap_it_is_the_old_house_or_the_new_one(
    house: House, alice: Person, tmp_path: Path
) -> None:
    made = backup.create(house.settings)
    close(house, prompt(house, alice, "a lighthouse"))
    shut(house)
    words = [sys.executable, "-c", _KILLED, str(tmp_path), str(house.settings.home), str(made.path)]
    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    steps = int(ran.stdout)
    assert 5 < steps < 59
    for step in range(1, steps + 1):
        place = msgspec.structs.replace(house.settings, home=tmp_path / f"step-{step}")
        restoring.recover(place)
        is_new = jobs(place) == set()
        assert place.pepper_file.read_bytes() == (house.pepper if is_new else b"another pepper, of today, 32 bytes")
        assert len(jobs(place)) == (0 if is_new else 1), step
        assert not (place.home / "restore.json").exists()
    assert jobs(place) == set()


def test_of_a_newer_version_it_is_refused(house: House) -> None:
    house.db.write(
        lambda conn: conn.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('customhouse', 'm999_later', '')"
        )
    )
    made = backup.create(house.settings)
    house.db.write(lambda conn: conn.execute("DELETE FROM _sqlite_migrations WHERE name = 'm999_later'"))
    shut(house)
    with pytest.raises(BackupError, match="newer version"):
        backup.restore(made.path, house.settings)


@pytest.mark.parametrize("name", [*schema.migrations.names[1::5], schema.migrations.names[-1]])
def test_one_of_an_older_schema_is_brought_up_to_date(settings: Settings, name: str, tmp_path: Path) -> None:
    old = msgspec.structs.replace(settings, home=tmp_path / "old")
    old.home.mkdir()
    conn = database.connect(old.database)
    schema.migrations.apply(sqlite_utils.Database(conn), stop_before=name)
    conn.execute("INSERT INTO organisation (id, name, created_at) VALUES ('o', 'A', 1)")
    conn.close()
    made = backup.create(old)
    assert made.schema == int(name[1:4]) - 1
    done = backup.restore(made.path, settings)
    assert (done.schema_before, done.schema) == (made.schema, int(schema.migrations.names[-1][1:4]))
    house = House(settings)
    assert [one.name for one in organisations.every(house.db.reader())] == ["A"]
    shut(house)


# --- what was erased stays erased ------------------------------------------------------------------------------------


def bytes_of(settings: Settings) -> bytes:
    return b"".join(path.read_bytes() for path in settings.home.glob("*.db*"))


def test_what_was_erased_after_the_backup_is_not_brought_back(house: House, alice: Person, charlie: Person) -> None:
    gone = prompt(house, alice, "a lighthouse that is to go")
    stays = prompt(house, alice, "a harbour that stays")
    whole = prompt(house, charlie, "all that Charlie said")
    close(house, gone, stays, whole)
    made = backup.create(house.settings)
    erase.erase(house, Scope(job_id=gone), **WHO)
    owner = next(one for one in organisations.every(house.db.reader()) if one.id == charlie.org_id)
    erase.erase(house, Scope(organisation=owner), **WHO)
    shut(house)
    done = backup.restore(made.path, house.settings)
    assert jobs(house.settings) == {stays}
    assert done.erased_again == 2
    assert b"lighthouse" not in bytes_of(house.settings)
    assert b"Charlie said" not in bytes_of(house.settings)
    assert b"a harbour that stays" in bytes_of(house.settings)
    again = House(settings_of(house))
    names = {one.name for one in organisations.every(again.db.reader())}
    assert f"erased {charlie.org_id}" in names
    with pytest.raises(Unauthorized):
        keys.recognise(again.db.reader(), again.pepper, charlie.key)
    shut(again)


def settings_of(house: House) -> Settings:
    return house.settings


def test_also_when_nothing_is_left_of_the_machine_but_the_backups(house: House, alice: Person, tmp_path: Path) -> None:
    """The erasure is known beside the backups as soon as it is made."""
    gone = prompt(house, alice, "a lighthouse that is to go")
    close(house, gone)
    made = backup.create(house.settings)
    erase.erase(house, Scope(job_id=gone), **WHO)
    known = house.settings.backup_folder / tombstones.FILE
    assert gone in known.read_text()
    assert "lighthouse" not in known.read_text()
    assert "asked by" not in known.read_text()
    elsewhere = msgspec.structs.replace(house.settings, home=tmp_path / "new")
    backup.restore(made.path, elsewhere)
    assert jobs(elsewhere) == set()
    assert b"lighthouse" not in bytes_of(elsewhere)


def test_of_an_erasure_up_to_a_date_nothing_younger_is_taken(house: House, alice: Person) -> None:
    old = prompt(house, alice, "an old lighthouse")
    close(house, old)
    made = backup.create(house.settings)
    erase.erase(house, Scope(before=clock.now_ms() + 86_400_000), **WHO)  # a date of tomorrow
    young = prompt(house, alice, "a young lighthouse")
    close(house, young)
    after = backup.create(house.settings)
    shut(house)
    assert backup.restore(made.path, house.settings).erased_again == 1
    assert jobs(house.settings) == set()
    assert backup.restore(after.path, house.settings).erased_again == 0
    assert jobs(house.settings) == {young}


def test_what_has_become_due_meanwhile_goes(house: House, alice: Person) -> None:
    kept = prompt(house, alice, "a lighthouse of last month")
    close(house, kept)
    made = backup.create(house.settings)
    shut(house)
    strict = msgspec.structs.replace(house.settings, retention=Retention(prompts_days=0))
    done = backup.restore(made.path, strict)
    assert done.removed["prompts"] == 1
    assert b"lighthouse" not in bytes_of(strict)
    assert jobs(strict) == {kept}


def test_a_line_of_the_erasures_that_was_cut_off_loses_only_itself(house: House, alice: Person) -> None:
    one, two = prompt(house, alice, "a lighthouse"), prompt(house, alice, "a harbour")
    close(house, one, two)
    erase.erase(house, Scope(job_id=one), **WHO)
    known = house.settings.backup_folder / tombstones.FILE
    with known.open("ab") as file:
        file.write(b'{"at": 17, "act')
    erase.erase(house, Scope(job_id=two), **WHO)
    assert [found.subject for found in tombstones.read([house.settings.backup_folder])] == [one, two]
    assert tombstones.write(house.settings)
    assert len(known.read_bytes().splitlines()) == 3


# --- the drill -------------------------------------------------------------------------------------------------------


def test_a_drill_restores_reads_compares_and_is_remembered(house: House, alice: Person) -> None:
    close(house, prompt(house, alice, "a lighthouse"))
    backup.create(house.settings)
    done = backup.drill(house.settings)
    assert done.faults == []
    assert done.counts["job"] == 1
    assert done.took_s > 0
    last = shelf.last_drill(house.settings.backup_folder)
    assert last is not None
    assert (last.is_good, last.backup) == (True, done.path.name)
    assert list(house.settings.home.glob(".restore-*")) == []
    assert len(jobs(house.settings)) == 1
    house.settings.pepper_file.chmod(0o600)
    house.settings.pepper_file.write_bytes(os.urandom(32))
    failed = backup.drill(house.settings)
    assert "pepper" in failed.faults[0]
    with done.path.open("r+b") as file:
        file.truncate(5000)
    assert not backup.drill(house.settings).is_good


def test_a_drill_sees_a_ledger_that_is_not_whole(house: House, alice: Person) -> None:
    house.db.write(
        lambda conn: conn.execute(
            """
            INSERT INTO ledger (id, org_id, type, amount_micros, balance_micros, source_type, source_id, description,
                created_at)
            VALUES ('l', :org, 'credit', 5, 7, 'manual', 'x', 'does not add up', 1)
            """,
            {"org": alice.org_id},
        )
    )
    made = backup.create(house.settings)
    assert made.ledger_faults
    report = backup.verify(made.path)
    assert (report.is_whole, report.ledger_faults) == (True, made.ledger_faults)
    assert any("ledger" in fault for fault in backup.drill(house.settings).faults)


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_asks_first_and_answers_in_json(
    house: House, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUSTOMHOUSE_HOME", str(house.settings.home))
    made = backup.create(house.settings)
    close(house, prompt(house, alice, "a lighthouse"))
    shut(house)
    asked = CliRunner().invoke(command, ["restore", str(made.path)], input="no\n")
    assert asked.exit_code != 0
    assert len(jobs(house.settings)) == 1
    done = CliRunner().invoke(command, ["restore", str(made.path), "--yes", "--json"])
    assert json.loads(done.stdout)["made_at"] == clock.rfc3339(made.made_at_ms)
    assert jobs(house.settings) == set()
    drilled = CliRunner().invoke(command, ["drill", "--json"])
    assert (drilled.exit_code, json.loads(drilled.stdout)["is_good"]) == (0, True)
