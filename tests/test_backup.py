"""Backups: what is in one, that a damaged one is known as such, who may open it, and which are kept."""

import gzip
import hashlib
import json
import os
import random
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from appliance import backup, clock, database
from appliance.backup import archive, making, sealing, shelf
from appliance.commands.backup import backup as command
from appliance.database import Connection
from appliance.errors import BackupError
from appliance.house import House
from appliance.settings import Backups, Settings
from tests.cast import Person
from tests.test_retention import close, prompt

ROOT = Path(__file__).resolve().parent.parent


def with_backup(settings: Settings, **given: Any) -> Settings:
    return msgspec.structs.replace(settings, backup=Backups(**given))


def rows_of(path: Path, table: str) -> int:
    conn = database.look(path)
    try:
        return int(conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    finally:
        conn.close()


# --- what is in it ---------------------------------------------------------------------------------------------------


def test_a_backup_holds_the_database_the_pepper_and_the_settings(
    house: House, alice: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "customhouse.toml"
    config.write_text("[server]\nport = 8123\n")
    monkeypatch.setenv("CUSTOMHOUSE_CONFIG", str(config))
    close(house, prompt(house, alice, "a lighthouse"))
    made = backup.create(house.settings, why="a test")
    manifest = archive.unpack(made.path, tmp_path / "laid")
    laid = tmp_path / "laid"
    assert (laid / "pepper").read_bytes() == house.pepper
    assert (laid / "settings/customhouse.toml").read_text() == config.read_text()
    assert (laid / "settings/categories.toml").is_file()
    assert rows_of(laid / "customhouse.db", "job") == 1
    assert manifest.counts == made.counts
    assert (manifest.why, manifest.schema, made.schema) == (
        "a test",
        int(manifest.migrations[-1][1:4]),
        manifest.schema,
    )
    assert made.path.stat().st_mode & 0o777 == 0o600
    assert (made.sha256, made.bytes) == (archive_digest(made.path), made.path.stat().st_size)
    assert shelf.read(made.path) == made
    assert backup.verify(made.path).is_whole


def archive_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_it_is_told_of_in_the_audit_log_and_nothing_else_is_left_behind(house: House) -> None:
    made = backup.create(house.settings, why="before an upgrade")
    line = house.db.reader().execute("SELECT * FROM audit WHERE action = 'backup.made'").fetchone()
    assert (line["subject"], line["reason"]) == (made.path.name, "before an upgrade")
    assert json.loads(line["detail"])["sha256"] == made.sha256
    assert sorted(path.name for path in house.settings.backup_folder.iterdir()) == [
        made.path.name,
        f"{made.path.name}.json",
    ]
    assert list(house.settings.home.glob(".backup-*")) == []


def test_weights_are_named_and_those_that_nobody_else_has_are_copied(house: House, tmp_path: Path) -> None:
    models = tmp_path / "models"
    data = b"what a publisher has as well"
    (models / "tiny").mkdir(parents=True)
    (models / "tiny" / "manifest.toml").write_text(
        'name = "tiny"\ntitle = "T"\ntask = "text-judge"\nruntime = "llama"\nlicence = "MIT"\n'
        f'[[files]]\nname = "t.gguf"\nsource = "file:t.gguf"\nsha256 = "{hashlib.sha256(data).hexdigest()}"\n'
    )
    weights = house.settings.weights_dir
    (weights / "tiny").mkdir()
    (weights / "tiny" / "t.gguf").write_bytes(data)
    (weights / "own").mkdir()
    (weights / "own" / "heads.json").write_text("{}")
    ours = msgspec.structs.replace(house.settings, models_dir=models)
    listed = {one.name: one.is_inside for one in archive.manifest_of(backup.create(ours).path).weights}
    assert listed == {"tiny/t.gguf": False, "own/heads.json": True}
    made = backup.create(ours, with_weights=True)
    archive.unpack(made.path, tmp_path / "laid")
    assert (tmp_path / "laid/weights/tiny/t.gguf").read_bytes() == data


def test_writers_go_on_while_it_is_made_and_it_is_of_one_moment(house: House) -> None:
    """Every transaction writes to two tables; a copy that is of two moments has more of one than of the other."""
    house.db.write(_two_tables)
    stop, written = threading.Event(), [0, 0]

    def write(which: int) -> None:
        while not stop.is_set():
            house.db.write(_both)
            written[which] += 1

    threads = [threading.Thread(target=write, args=(which,)) for which in (0, 1)]
    for one in threads:
        one.start()
    other = subprocess.Popen([sys.executable, "-c", _OTHER, str(house.db.path)], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"writing\n"
        for _ in range(3):
            before = sum(written)
            made = backup.create(house.settings, step=lambda: house.db.write(_both))
            assert sum(written) > before
            report = backup.verify(made.path)
            assert report.faults == []
            assert report.manifest is not None
            assert report.manifest.counts["one"] == report.manifest.counts["two"]
    finally:
        stop.set()
        other.kill()
        other.communicate()
        for one in threads:
            one.join()


def _two_tables(conn: Connection) -> None:
    conn.execute("CREATE TABLE one (at INTEGER)")
    conn.execute("CREATE TABLE two (at INTEGER, filling BLOB)")


def _both(conn: Connection) -> None:
    conn.execute("INSERT INTO one VALUES (1)")
    conn.execute("INSERT INTO two VALUES (1, randomblob(2000))")


_OTHER = """
import sys
from pathlib import Path
from appliance.database import Database
db = Database(Path(sys.argv[1]))
def both(conn):
    conn.execute("INSERT INTO one VALUES (2)")
    conn.execute("INSERT INTO two VALUES (2, randomblob(2000))")
db.write(both)
print("writing", flush=True)
while True:
    db.write(both)
"""


def test_of_a_damaged_database_none_is_made(house: House) -> None:
    backup.create(house.settings)
    house.db.write(_two_tables)
    for _ in range(50):
        house.db.write(_both)
    database.empty_log(house.db.path, 5)
    with house.db.path.open("r+b") as file:
        file.seek(house.db.path.stat().st_size - 4096 * 3)
        file.write(os.urandom(4096 * 2))
    with pytest.raises(BackupError, match=r"damaged|cannot be read"):
        backup.create(house.settings)
    assert len(shelf.every(house.settings.backup_folder)) == 1


def test_one_at_a_time(house: House) -> None:
    refused: list[str] = []

    def again() -> None:
        if not refused:
            try:
                backup.create(house.settings)
            except BackupError as error:
                refused.append(error.message)

    backup.create(house.settings, step=again)
    assert "running already" in refused[0]


# --- damage ----------------------------------------------------------------------------------------------------------


def _flipped(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x10]))


def test_a_byte_changed_anywhere_is_found(house: House, alice: Person) -> None:
    close(house, prompt(house, alice, "a lighthouse"))
    made = backup.create(house.settings)
    size = made.bytes
    rng = random.Random(6)
    for at in [0, 1, 9, 10, size // 2, size - 9, size - 1, *(rng.randrange(size) for _ in range(20))]:
        _flipped(made.path, at)
        assert not backup.verify(made.path).is_whole, at
        with pytest.raises(BackupError):
            backup.restore(made.path, house.settings)
        _flipped(made.path, at)
    assert backup.verify(made.path).is_whole


def test_without_the_note_beside_it_a_changed_byte_is_found_by_what_is_inside(house: House) -> None:
    """Past gzip's own ten bytes, of which some say nothing. Where a page repeats another, a changed byte may say the
    same in other words: then nothing is damaged."""
    made = backup.create(house.settings)
    shelf.beside(made.path).unlink()
    assert shelf.every(house.settings.backup_folder)[0].counts == made.counts
    assert backup.verify(made.path).is_whole
    inside = gzip.decompress(made.path.read_bytes())
    rng = random.Random(7)
    found = 0
    for at in [0, 1, 2, 10, 11, made.bytes - 1, made.bytes - 8, *(rng.randrange(10, made.bytes) for _ in range(20))]:
        _flipped(made.path, at)
        if backup.verify(made.path).is_whole:
            assert gzip.decompress(made.path.read_bytes()) == inside, at
        else:
            found += 1
        _flipped(made.path, at)
    assert found >= 20


@pytest.mark.parametrize("left", [0, 1, 30, 0.5, 0.999])
def test_one_that_was_cut_off_is_found(house: House, left: float) -> None:
    made = backup.create(house.settings)
    shelf.beside(made.path).unlink()
    os.truncate(made.path, int(made.bytes * left) if left < 1 else int(left))
    report = backup.verify(made.path)
    assert not report.is_whole
    assert made.path.name in report.faults[0]


# --- encryption ------------------------------------------------------------------------------------------------------


def test_only_who_it_was_sealed_for_opens_it(house: House, tmp_path: Path) -> None:
    identity, public = sealing.generate()
    other, _ = sealing.generate()
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text(f"# mine\n{identity}\n")
    wrong.write_text(other)
    made = backup.create(with_backup(house.settings, recipients=[public]))
    assert made.is_encrypted
    assert made.path.suffix == ".age"
    assert b"customhouse.db" not in made.path.read_bytes()
    closed = backup.verify(made.path)
    assert (closed.is_whole, closed.is_opened) == (True, False)
    opened = backup.verify(made.path, identity=sealing.identity(right))
    assert (opened.is_whole, opened.is_opened) == (True, True)
    refused = backup.verify(made.path, identity=sealing.identity(wrong))
    assert "other keys" in refused.faults[0]
    with pytest.raises(BackupError, match="--identity"):
        backup.restore(made.path, house.settings)
    for at in (5, 100, made.bytes // 2, made.bytes - 1):  # by the seal itself, should the note be lost too
        shelf.beside(made.path).unlink(missing_ok=True)
        _flipped(made.path, at)
        assert not backup.verify(made.path, identity=sealing.identity(right)).is_whole
        _flipped(made.path, at)


def test_a_key_that_is_none_is_refused_before_anything_is_made(house: House) -> None:
    with pytest.raises(BackupError, match="no age public key"):
        backup.create(with_backup(house.settings, recipients=["age1nonsense"]))
    assert not house.settings.backup_folder.exists()


# --- a full disk -----------------------------------------------------------------------------------------------------

_UNSHARED = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")
_FULL = """
set -e
mount -t tmpfs -o size={size} none "$1"
exec "$2" - "$3" "$1" <<'E'
import sys
from pathlib import Path
from appliance import backup, settings
from appliance.errors import BackupError
ours = settings.load(environ={{"CUSTOMHOUSE_HOME": sys.argv[1], "CUSTOMHOUSE_BACKUP_FOLDER": sys.argv[2]}})
try:
    backup.create(ours)
except BackupError as error:
    print(error.message)
    print(sorted(path.name for path in Path(sys.argv[2]).iterdir()))
E
"""


def test_on_a_full_disk_nothing_half_made_is_left(house: House, tmp_path: Path) -> None:
    house.db.write(_two_tables)
    for _ in range(200):
        house.db.write(_both)
    full = tmp_path / "full"
    full.mkdir()
    ran = subprocess.run(
        [*_UNSHARED, _FULL.format(size="64k"), "sh", str(full), sys.executable, str(house.settings.home)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    if "unshare" in ran.stderr or "mount" in ran.stderr:
        pytest.skip(f"no namespaces here: {ran.stderr.strip()}")
    message, left = ran.stdout.splitlines()
    assert "No space left" in message
    assert left == "[]"
    assert list(house.settings.home.glob(".backup-*")) == []


# --- rotation --------------------------------------------------------------------------------------------------------

_NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


@pytest.mark.parametrize(
    ("every_hours", "days", "keep", "number"),
    [
        (24, 400, (7, 4, 6), 14),  # 7 days; 2 weeks that end before them, 5 months that do
        (24, 400, (7, 0, 0), 7),
        (24, 3, (7, 4, 6), 4),
        (1, 2, (7, 4, 6), 25),
        (24, 30, (1, 0, 0), 1),
    ],
)
def test_rotation_keeps_days_weeks_and_months(
    every_hours: int, days: int, keep: tuple[int, int, int], number: int
) -> None:
    times = [_ms(_NOW - timedelta(hours=hours)) for hours in range(0, days * 24 + 1, every_hours)]
    kept = shelf.kept(times, _ms(_NOW), Backups(keep_daily=keep[0], keep_weekly=keep[1], keep_monthly=keep[2]))
    assert max(times) in kept
    assert {at for at in times if at > _ms(_NOW - timedelta(days=1))} <= kept
    assert len({datetime.fromtimestamp(at / 1000, UTC).date() for at in kept}) >= min(keep[0], days)
    assert len(kept) == number, sorted(datetime.fromtimestamp(at / 1000, UTC).isoformat() for at in kept)


def test_day_by_day_for_two_years_what_is_kept_reaches_back_four_months_and_more() -> None:
    held: set[int] = set()
    for day in range(730):
        now = _ms(_NOW + timedelta(days=day))
        held = shelf.kept({*held, now}, now, Backups())
        assert len(held) <= 17
    newest = max(held)
    assert newest - min(held) > 120 * 86_400_000


def test_what_is_not_kept_goes_with_what_is_said_of_it(house: House) -> None:
    folder = house.settings.backup_folder
    made = backup.create(house.settings)
    old = msgspec.structs.replace(made, made_at_ms=made.made_at_ms - 900 * 86_400_000)
    older = folder / "customhouse-20200101T000000Z-0000.tar.gz"
    older.write_bytes(made.path.read_bytes())
    shelf.note(msgspec.structs.replace(old, path=older))
    (folder / "customhouse-20190101T000000Z-0000.tar.gz.json").write_text("{}")
    (folder / "erasures.jsonl").write_text("")
    only_days = Backups(keep_daily=1, keep_weekly=0, keep_monthly=0)
    assert shelf.prune(folder, clock.now_ms(), only_days, dry_run=True) == [older]
    assert older.exists()
    assert shelf.prune(folder, clock.now_ms(), only_days) == [older]
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [made.path.name, f"{made.path.name}.json", "erasures.jsonl"]
    )
    assert shelf.prune(folder, clock.now_ms(), only_days, before_ms=clock.now_ms() + 1000) == []


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def ask(house: House, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("CUSTOMHOUSE_HOME", str(house.settings.home))

    def call(*words: str) -> Any:
        ran = CliRunner().invoke(command, list(words))
        assert ran.exception is None or isinstance(ran.exception, SystemExit | BackupError), ran.output
        return ran

    return call


def test_the_commands_make_list_verify_and_prune(ask: Any, house: House) -> None:
    made = json.loads(ask("create", "--json", "--why", "a test").stdout)
    assert made["made"]["why"] == "a test"
    assert json.loads(ask("create", "--if-due", "--json").stdout)["made"] is None
    listed = json.loads(ask("list", "--json").stdout)
    assert [one["path"] for one in listed["backups"]] == [made["made"]["path"]]
    verified = ask("verify", "--json")
    assert (verified.exit_code, json.loads(verified.stdout)["is_whole"]) == (0, True)
    _flipped(Path(made["made"]["path"]), 5000)
    verified = ask("verify")
    assert verified.exit_code == 1
    assert "sha256" in verified.stderr
    assert json.loads(ask("prune", "--dry-run", "--json").stdout) == {"dry_run": True, "removed": []}


def test_an_identity_is_written_once_and_for_its_owner_only(ask: Any, tmp_path: Path) -> None:
    path = tmp_path / "identity"
    public = json.loads(ask("keygen", "--output", str(path), "--json").stdout)["public_key"]
    assert public.startswith("age1")
    assert path.stat().st_mode & 0o777 == 0o600
    assert sealing.open_(sealing.seal(b"x", sealing.recipients([public])), sealing.identity(path)) == b"x"
    assert isinstance(ask("keygen", "--output", str(path)).exception, BackupError)


def test_one_is_due_by_the_settings(house: House) -> None:
    now = clock.now_ms()
    assert making.is_due(house.settings, now)
    assert not making.is_due(with_backup(house.settings, every_hours=0), now)
    made = backup.create(house.settings)
    assert not making.is_due(house.settings, made.made_at_ms + 23 * 3_600_000)
    assert making.is_due(house.settings, made.made_at_ms + 24 * 3_600_000)
