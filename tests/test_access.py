"""Who may change things: the Unix group decides, everybody else looks, and the audit log names the person."""

import grp
import json
import os
import pwd
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from msgspec.structs import replace

from appliance import access, audit, database, settings
from appliance.access import Access
from appliance.accounts import organisations
from appliance.accounts.organisations import Changes
from appliance.errors import Forbidden, Misconfigured
from appliance.house import House
from appliance.settings import Admin, Settings

NOBODY = 65534
LOOKS = Access("operator:nell", False, "You may look, not change")
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who is neither root nor the owner of anything here."""
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    monkeypatch.setattr(os, "access", lambda *_: True)


def test_the_owner_of_the_state_directory_may_whatever_the_group(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = house.settings.home.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner)
    assert access.of_caller(replace(house.settings, admin=Admin("nobody-is-in-it"))).may_change


def test_root_may(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert access.of_caller(replace(house.settings, admin=Admin("nobody-is-in-it"))).may_change


@pytest.mark.usefixtures("stranger")
def test_who_is_not_in_the_group_may_look(house: House) -> None:
    found = access.of_caller(replace(house.settings, admin=Admin("nobody-is-in-it")))
    assert not found.may_change
    assert found.why_not == "Only members of the group nobody-is-in-it may change anything; you may look"


@pytest.mark.usefixtures("stranger")
def test_who_is_in_the_group_may(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    group = grp.getgrgid(os.getegid()).gr_name
    assert access.of_caller(replace(house.settings, admin=Admin(group))).may_change
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != house.settings.database)
    found = access.of_caller(replace(house.settings, admin=Admin(group)))
    keeper = pwd.getpwuid(house.settings.home.stat().st_uid).pw_name
    assert f"you are in the group {group}, but" in found.why_not
    assert f"sudo -u {keeper} customhouse" in found.why_not


@pytest.mark.usefixtures("stranger")
def test_without_a_group_whoever_may_write_the_database_may(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    assert access.of_caller(house.settings).may_change
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert not access.of_caller(house.settings).may_change


def test_sudo_is_named_beside_the_unix_user_never_instead_of_it() -> None:
    me = pwd.getpwuid(os.geteuid()).pw_name
    other = next(one for one in pwd.getpwall() if one.pw_name != me)
    assert access.actor({}) == f"operator:{me}"
    under = {"SUDO_USER": other.pw_name, "SUDO_UID": str(other.pw_uid)}
    assert access.actor(under) == f"operator:{me} (sudo: {other.pw_name})"
    for made_up in (
        {"SUDO_USER": "no-such-person", "SUDO_UID": "7"},
        {**under, "SUDO_UID": "4294"},
        {"SUDO_USER": other.pw_name},
        {"USER": "eve", "LOGNAME": "eve"},
    ):
        assert access.actor(made_up) == f"operator:{me}"
    assert audit.operator().startswith(f"operator:{me}")


# --- a house to look at -----------------------------------------------------------------------------------------------


def test_a_house_to_look_at_reads_what_is_written_meanwhile_and_writes_nothing(house: House) -> None:
    looking = House(house.settings, LOOKS)
    made = house.db.write(lambda conn: organisations.create_with(conn, "A", Changes(), actor="operator:a", reason=None))
    assert [one.id for one in organisations.every(looking.db.reader())] == [made.id]
    with pytest.raises(Forbidden, match="You may look, not change"):
        looking.db.write(lambda conn: conn.execute("DELETE FROM organisation"))
    with pytest.raises(database.Error):
        looking.db.reader().execute("DELETE FROM organisation")
    looking.close()


def test_looking_makes_nothing(house: House) -> None:
    settings = house.settings
    house.close()
    for name in ("media", "weights", "run"):
        (settings.home / name).rmdir()
    settings.pepper_file.unlink()
    before = sorted(one.name for one in settings.home.iterdir())
    looking = House(settings, LOOKS)
    assert organisations.every(looking.db.reader()) == []
    looking.close()
    assert sorted(one.name for one in settings.home.iterdir()) == before


def test_what_was_read_as_it_lay_follows_when_somebody_begins_to_write(house: House) -> None:
    settings = house.settings
    house.close()
    conn = database.connect(settings.database)
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    conn.close()
    looking = House(settings, LOOKS)
    assert organisations.every(looking.db.reader()) == []
    again = House(settings)
    again.db.write(lambda conn: organisations.create_with(conn, "A", Changes(), actor="operator:a", reason=None))
    assert [one.name for one in organisations.every(looking.db.reader())] == ["A"]
    looking.close()
    again.close()


def test_a_sentence_where_there_is_no_database(settings: Settings) -> None:
    with pytest.raises(Misconfigured, match=r"there is no database yet; start Customhouse first: customhouse up"):
        House(settings, LOOKS)
    assert not settings.home.exists()


def test_a_sentence_for_tables_of_another_version(house: House) -> None:
    house.db.write(lambda conn: conn.execute("DELETE FROM _sqlite_migrations WHERE name LIKE 'm018%'"))
    with pytest.raises(Misconfigured, match="of an older version"):
        House(house.settings, LOOKS)
    house.db.write(lambda conn: conn.execute("UPDATE _sqlite_migrations SET name = 'm999' WHERE name LIKE 'm001%'"))
    house.db.write(
        lambda conn: conn.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at)"
            " VALUES ('customhouse', 'm001_initial', ''), ('customhouse', 'm018_surfaces', '')"
        )
    )
    with pytest.raises(Misconfigured, match="of a newer version"):
        House(house.settings, LOOKS)


def test_a_sentence_for_a_file_that_is_no_database(settings: Settings) -> None:
    settings.home.mkdir()
    settings.database.write_text("not a database, but long enough to be taken for one" * 20)
    with pytest.raises(Misconfigured, match="cannot be read by you"):
        House(settings, LOOKS)


# --- as somebody else, for real ---------------------------------------------------------------------------------------


_SCRIPT = """
import os, sys
import appliance.commands.keys, appliance.commands.organisations
from appliance import __main__
os.setgroups([]); os.setgid(65534); os.setuid(65534)
__main__.main()
"""  # all is imported as root: a stranger need not reach this Python


def _as_nobody(home: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", _SCRIPT, *words],
        env={"CUSTOMHOUSE_HOME": str(home), "PATH": os.environ["PATH"]},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_lists_and_is_refused_to_change(house: House, settings: Settings) -> None:
    house.db.write(lambda conn: organisations.create_with(conn, "A", Changes(), actor="operator:a", reason=None))
    for folder in (settings.home, *settings.home.parents):
        if Path(tempfile.gettempdir()) in folder.parents:
            folder.chmod(0o755)
    for file in settings.home.glob("*.db*"):
        file.chmod(0o644)
    listed = _as_nobody(settings.home, "organisations", "list", "--json")
    assert listed.returncode == 0, listed.stderr
    assert [one["name"] for one in json.loads(listed.stdout)] == ["A"]
    refused = _as_nobody(settings.home, "keys", "create", "--org", "A", "--name", "mine")
    assert refused.returncode == 1
    assert "You may look, not change" in refused.stderr
    assert "Traceback" not in refused.stderr
    settings.home.chmod(0o750)
    shut = _as_nobody(settings.home, "organisations", "list")
    assert shut.returncode == 1
    assert "you may not enter its folder" in shut.stderr


def test_the_group_is_a_setting() -> None:
    assert settings.load(environ={"CUSTOMHOUSE_ADMIN_GROUP": "wheel"}).admin.group == "wheel"
