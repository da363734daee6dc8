"""Releases side by side: what one is, going to another and back, what is refused, and what is left of a change that
was cut off at any of its steps. Real commands of real copies of this tree; test_release_under_load starts processes.
"""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from appliance import database, installed
from appliance.commands import release as release_commands
from appliance.doctor.checks import releases as looks
from appliance.doctor.finding import State
from appliance.errors import Misconfigured
from appliance.release import journal, release, shelf
from appliance.release.release import Release
from appliance.release.road import BACK, FORWARD, Outcome
from tests import releases
from tests.test_upgrade import job_id, used

OLD, NEW, AFTER = "0.1.0", "0.2.0", "0.3.0"

CUT = """
import os, sys
from pathlib import Path
from appliance import services, settings
from appliance.release import activation
from appliance.release.hand import Hand
from appliance.release.road import Box

act, step, prefix = sys.argv[1:]

def die(now):
    if now == step:
        os.kill(os.getpid(), 9)

loaded = settings.load()
box = Box(Path(prefix), loaded, services.Nobody(), "operator:test", Hand(loaded), on_step=die)
{"activate": lambda: activation.activate(box, "0.2.0"), "rollback": lambda: activation.rollback(box),
 "resume": lambda: activation.resume(box)}[act]()
"""
"""Kills itself after the step stands in the journal and before it is done."""


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three versions: the second has a migration that the first does not know; the third must follow the second."""
    prefix = tmp_path_factory.mktemp("prefix")
    releases.lay(prefix, OLD)
    releases.lay(prefix, NEW, is_migrating=True)
    required = {"appliance/release/release.py": ('REQUIRED = ("0.1.0",)', 'REQUIRED = ("0.1.0", "0.2.0")')}
    releases.lay(prefix, AFTER, is_migrating=True, edits=required)
    (prefix / "home").mkdir(mode=0o750)
    used(prefix / "home" / "customhouse.db")
    assert releases.answer(releases.run(prefix, OLD, "release", "activate", OLD, "--json"))["result"] == "activated"
    return prefix


@pytest.fixture
def box(prefix: Path) -> Path:
    """The first version runs, whatever happened before."""
    if installed.current(prefix) != OLD:
        releases.run(prefix, "current", "rollback")
    return prefix


@pytest.fixture
def ahead(prefix: Path) -> Path:
    """The second one runs."""
    if installed.current(prefix) != NEW:
        activate(prefix)
    return prefix


def jobs(prefix: Path) -> set[str]:
    conn = database.look(prefix / "home/customhouse.db")
    try:
        return {row["id"] for row in conn.execute("SELECT id FROM job")}
    finally:
        conn.close()


def schema(prefix: Path) -> list[str]:
    return database.applied(prefix / "home/customhouse.db")


def is_pair(prefix: Path) -> bool:
    """The version that is current and the tables belong together, and nothing is lost or damaged."""
    one = release.read(prefix / "current")
    path = prefix / "home/customhouse.db"
    return (
        schema(prefix)[-1] == one.schema
        and releases.is_sound(path)
        and jobs(prefix) >= {job_id(number) for number in range(12)}
    )


def activate(prefix: Path, version: str = NEW, **more: object) -> subprocess.CompletedProcess[str]:
    return releases.run(prefix, version, "release", "activate", version, "--json", **more)


# --- there and back --------------------------------------------------------------------------------------------------


def test_it_goes_there_and_back_with_the_tables_and_keeps_what_came_meanwhile(box: Path) -> None:
    before = releases.tables(box / "home/customhouse.db")
    there = releases.answer(activate(box))
    assert there["result"] == "activated"
    assert there["version_before"] == OLD
    assert there["rehearsal"]["migrations"] == [f"m{releases.next_number():03}_made_up"]
    assert there["rehearsal"]["back_seconds"] is not None
    assert Path(there["backup"]).is_file()
    assert (installed.current(box), installed.current(box, installed.PREVIOUS)) == (NEW, OLD)
    assert is_pair(box)
    conn = database.connect(box / "home/customhouse.db")
    assert conn.execute("SELECT count(*) FROM made_up").fetchone()[0] == len(jobs(box))
    conn.execute(
        "INSERT INTO job (id, org_id, kind, status, created_at) SELECT ?, org_id, kind, 'queued', created_at FROM job "
        "WHERE kind = 'PROMPT_MODERATION' LIMIT 1",
        (job_id(4711),),
    )
    conn.close()

    back = releases.answer(releases.run(box, "current", "rollback", "--reason", "it was slow", "--json"))
    assert (back["result"], back["version"], back["version_before"]) == ("rolled back", OLD, NEW)
    assert installed.current(box, installed.PREVIOUS) is None
    assert is_pair(box)
    assert job_id(4711) in jobs(box)
    assert releases.tables(box / "home/customhouse.db") == before
    lines: list[dict[str, Any]] = json.loads(releases.run(box, "current", "audit", "list", "--json").stdout)
    told = [(one["action"], one["subject"], one["reason"]) for one in lines if one["action"].startswith("release.")]
    assert told[:2] == [("release.rolled_back", OLD, "it was slow"), ("release.activated", NEW, None)]


def test_what_was_not_started_is_not_said_to_run(capsys: pytest.CaptureFixture[str]) -> None:
    for services, words in (((), "0.2.0 is current, and nothing was started"), (("api",), "0.2.0 runs")):
        with pytest.raises(SystemExit) as end:
            release_commands.tell(Outcome("activated", "0.2.0", services), as_json=False)
        assert end.value.code == 0
        assert capsys.readouterr().out.startswith(words)


def test_activating_what_runs_changes_nothing(box: Path) -> None:
    assert releases.answer(activate(box, OLD))["result"] == "unchanged"


def test_without_a_route_it_reaches_out_for_nothing_and_whoever_is_asked_the_right_version_acts(box: Path) -> None:
    """In a network namespace that has not even a loopback that is up. The migration is the newer version's, so that
    one's code has to run, whichever is asked."""
    alone = ("unshare", "--net") if os.geteuid() == 0 else ("unshare", "--user", "--map-root-user", "--net")
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody make a network namespace")
    routes = subprocess.run([*alone, "cat", "/proc/net/route"], capture_output=True, text=True, check=True).stdout
    assert len(routes.splitlines()) <= 1  # the heading
    done = releases.run(box, "current", "release", "activate", NEW, "--json", before=alone)
    assert releases.answer(done)["result"] == "activated"
    back = releases.run(box, AFTER, "rollback", "--json", before=alone)  # it knows the migration, but does not run
    assert (releases.answer(back)["result"], releases.answer(back)["version"]) == ("rolled back", OLD)


def test_the_list_and_the_page_of_one_say_what_there_is(box: Path) -> None:
    found: list[dict[str, object]] = json.loads(releases.run(box, "current", "release", "list", "--json").stdout)
    assert [(one["version"], one["current"]) for one in found] == [(OLD, True), (NEW, False), (AFTER, False)]
    shown = releases.answer(releases.run(box, "current", "release", "show", NEW, "--json"))
    assert (shown["schema_number"], shown["upgrade_from"]) == (releases.next_number(), "0.1.0")
    assert shown["unfinished"] is None
    assert NEW in releases.run(box, "current", "release", "list").stdout


# --- refused ---------------------------------------------------------------------------------------------------------


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stdout
    return str(json.loads(done.stderr)["error"]["message"])


def test_a_required_version_is_not_skipped(box: Path) -> None:
    said = refusal(activate(box, AFTER, check=False))
    assert said == f"{AFTER} can be upgraded to from {NEW} on, and {OLD} runs; first upgrade to {NEW}"
    assert is_pair(box)


def test_there_is_nothing_before_the_first(box: Path) -> None:
    assert "no version before" in refusal(releases.run(box, "current", "rollback", "--json", check=False))


def test_a_version_that_is_not_there_or_not_whole_is_not_activated(box: Path) -> None:
    assert "there are:" in refusal(releases.run(box, "current", "release", "activate", "9.9", "--json", check=False))
    path = box / "versions" / NEW / "source" / "config" / "categories.toml"
    text = path.read_text()
    path.write_text(text + "\n")
    said = refusal(activate(box, check=False))
    path.write_text(text)
    assert "not as it was installed" in said
    assert is_pair(box)


def test_a_version_that_lies_ready_changes_no_tables(box: Path) -> None:
    """2026-11-21: the installer of a newer tree only wanted to look, and the database was migrated under the API."""
    done = releases.run(box, NEW, "keys", "list", "--json", check=False)
    assert f"release activate {NEW}" in refusal(done)
    assert is_pair(box)


def test_two_changes_at_once_are_refused(box: Path) -> None:
    with journal.held(box):
        assert "under way" in refusal(activate(box, check=False))
        assert journal.is_held(box)
    assert not journal.is_held(box)


def test_an_older_version_is_not_activated_but_rolled_back_to(ahead: Path) -> None:
    assert "customhouse rollback" in refusal(activate(ahead, OLD, check=False))
    assert installed.current(ahead) == NEW


def test_tables_of_a_newer_version_are_refused_by_an_older(ahead: Path) -> None:
    done = releases.run(ahead, OLD, "keys", "list", "--json", check=False)
    assert "newer version" in refusal(done)


def test_settings_that_the_version_before_does_not_know_are_found_before_anything_stops(ahead: Path) -> None:
    config = ahead / "home" / "customhouse.toml"
    source = ahead / "versions" / NEW / "source" / "appliance" / "settings.py"
    text = source.read_text()
    source.write_text(text.replace("    port: int = 8000", "    port: int = 8000\n    doors: int = 1"))
    config.write_text("[server]\ndoors = 2\n")
    said = refusal(releases.run(ahead, "current", "rollback", "--json", check=False))
    assert "would not start with the settings as they are" in said
    assert "doors" in said
    assert installed.current(ahead) == NEW
    config.unlink()
    source.write_text(text)


def test_a_migration_that_cannot_be_taken_back_is_told_of(ahead: Path) -> None:
    migrations = ahead / "versions" / NEW / "source/appliance/schema/__init__.py"
    text = migrations.read_text()
    migrations.write_text(text.replace(f'undo="{releases.next_number():03}_made_up_undone.sql"', ""))
    said = refusal(releases.run(ahead, "current", "rollback", "--json", check=False))
    assert "customhouse rollback --restore-backup" in said
    assert is_pair(ahead)
    migrations.write_text(text)


def test_the_backup_of_before_may_be_put_in_the_place_of_the_database(ahead: Path) -> None:
    """By the version that it goes back to; what came meanwhile is lost, as was said."""
    conn = database.connect(ahead / "home/customhouse.db")
    conn.execute(
        "INSERT INTO job (id, org_id, kind, status, created_at) SELECT ?, org_id, kind, 'queued', created_at FROM job "
        "WHERE kind = 'PROMPT_MODERATION' LIMIT 1",
        (job_id(4712),),
    )
    conn.close()
    done = releases.answer(releases.run(ahead, "current", "rollback", "--restore-backup", "--json"))
    assert (done["result"], done["version"]) == ("rolled back", OLD)
    assert is_pair(ahead)
    assert job_id(4712) not in jobs(ahead)


# --- cut off ---------------------------------------------------------------------------------------------------------


def cut(prefix: Path, version: str, act: str, step: str) -> None:
    """Begin, and be killed at the step."""
    python = prefix / "versions" / version / "venv/bin/python"
    done = subprocess.run(
        [str(python), "-P", "-c", CUT, act, step, str(prefix)],
        env=releases.environ(prefix / "home"),
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, (step, done.stdout, done.stderr)
    left = journal.read(prefix)
    assert left is not None
    assert left.step == step
    assert not journal.is_held(prefix)


def test_killed_at_every_step_there_the_box_starts_each_time_and_arrives(box: Path) -> None:
    """Before the switch it is undone by whoever comes next; after it, it goes on, and is killed again later."""
    names = [name for name, _ in FORWARD]
    at = names.index("switch")
    for step in names[: at + 1]:
        cut(box, NEW, "activate", step)
        starts(box, OLD)
    assert releases.answer(releases.run(box, "current", "release", "resume", "--json"))["result"] == "undone"
    for step in names[at + 1 :]:
        cut(box, NEW, "activate" if step == names[at + 1] else "resume", step)
        starts(box, NEW)
    done = releases.answer(releases.run(box, "current", "release", "resume", "--json"))
    assert (done["result"], done["version"], done["version_before"]) == ("activated", NEW, OLD)
    assert is_pair(box)
    assert journal.read(box) is None


def test_killed_at_every_step_back_the_box_starts_each_time_and_arrives(ahead: Path) -> None:
    names = [name for name, _ in BACK]
    at = names.index("switch-back")
    for step in names:
        cut(ahead, NEW, "rollback" if step == names[0] else "resume", step)
        starts(ahead, NEW if names.index(step) <= at else OLD)
    done = releases.answer(releases.run(ahead, "current", "release", "resume", "--json"))
    assert (done["result"], done["version"]) == ("rolled back", OLD)
    assert is_pair(ahead)
    assert journal.read(ahead) is None


def starts(prefix: Path, version: str) -> None:
    """As after a power cut: what is current is started, and is one with the tables."""
    assert installed.current(prefix) == version
    releases.run(prefix, "current", "keys", "list")
    assert is_pair(prefix)


def test_killed_in_the_middle_of_a_migration_nothing_of_it_is_there(box: Path) -> None:
    (box / "versions" / NEW / "source/appliance/schema/die").touch()
    # the rehearsal would be what dies: the tables are made by hand up to there
    python = box / "versions" / NEW / "venv/bin/python"
    shelf.point(box, NEW)
    journal.write(box, journal.Journal("activate", NEW, OLD, schema(box)[-1], "migrate", actor="operator:test"))
    done = subprocess.run(
        [str(python), "-P", "-c", "import subprocess, sys; from appliance.__main__ import main; main()",
         "release", "resume"],
        env=releases.environ(box / "home"), cwd="/", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, (done.stdout, done.stderr)
    assert schema(box)[-1] == release.read(box / "versions" / OLD).schema
    assert releases.is_sound(box / "home/customhouse.db")
    again = releases.answer(releases.run(box, "current", "release", "resume", "--json"))
    assert (again["result"], again["version"]) == ("activated", NEW)
    assert is_pair(box)


def test_a_migration_that_fails_on_the_copy_leaves_everything_as_it_was(box: Path) -> None:
    conn = database.connect(box / "home/customhouse.db")
    conn.execute("CREATE TABLE made_up (x)")  # the migration means to make it
    conn.close()
    said = refusal(activate(box, check=False))
    assert said.startswith("rehearse: ")
    conn = database.connect(box / "home/customhouse.db")
    conn.execute("DROP TABLE made_up")
    conn.close()
    assert is_pair(box)
    assert journal.read(box) is None
    assert not (box / "home/rehearsal").exists()


def test_a_torn_link_is_mended_by_the_next_switch(box: Path) -> None:
    (box / f".{installed.CURRENT}.new").symlink_to("versions/9.9")  # of a switch that was cut off
    activate(box)
    assert not (box / f".{installed.CURRENT}.new").is_symlink()
    assert is_pair(box)


def test_a_link_to_what_is_gone_is_cured_by_an_activation(box: Path) -> None:
    (box / "current").unlink()
    (box / "current").symlink_to("versions/0.0.9")
    assert releases.answer(releases.run(box, OLD, "release", "activate", OLD, "--json"))["result"] == "activated"
    assert is_pair(box)


# --- in small --------------------------------------------------------------------------------------------------------


def test_versions_are_ordered_as_numbers() -> None:
    names = ["0.10.0", "0.2.0.r10", "0.2.0", "0.2.0.r2", "0.1.0"]
    assert sorted(names, key=release.order) == ["0.1.0", "0.2.0", "0.2.0.r2", "0.2.0.r10", "0.10.0"]
    for odd in ("", "../0.1.0", "0.1.0/x", "new"):
        with pytest.raises(Misconfigured):
            release.order(odd)


def test_the_least_version_is_the_last_required_stop_before() -> None:
    stops = ("0.1.0", "0.4.0", "1.0.0")
    assert [release.least_before(one, stops) for one in ("0.1.0", "0.2.0", "0.4.0", "0.5.0.r2", "2.0.0")] == [
        "0", "0.1.0", "0.1.0", "0.4.0", "1.0.0",
    ]  # fmt: skip


def test_the_digest_tells_trees_apart_and_does_not_see_what_running_leaves(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b.py").write_text("x = 1\n")
    found = release.digest(tmp_path)
    (tmp_path / "a/__pycache__").mkdir()
    (tmp_path / "a/__pycache__/b.pyc").write_bytes(b"\0")
    assert release.digest(tmp_path) == found
    (tmp_path / "a/b.py").write_text("x = 2\n")
    changed = release.digest(tmp_path)
    (tmp_path / "a/b.py").rename(tmp_path / "a/c.py")
    assert len({found, changed, release.digest(tmp_path)}) == 3


def test_pruning_keeps_the_newest_and_what_runs_and_ran(tmp_path: Path) -> None:
    for version in ("0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0"):
        folder = tmp_path / "versions" / version
        folder.mkdir(parents=True)
        one = Release(version, version, "m020_thresholds", 20, "0", "2026-01-01T00:00:00Z", "")
        (folder / release.FILE).write_text(json.dumps({name: getattr(one, name) for name in one.__struct_fields__}))
    (tmp_path / "versions/0.6.0").mkdir()  # never finished
    shelf.point(tmp_path, "0.2.0")
    shelf.point(tmp_path, "0.1.0", installed.PREVIOUS)
    assert shelf.prunable(tmp_path, 3) == ["0.3.0", "0.4.0"]
    (tmp_path / "versions/.gone-0.0.1").mkdir()  # a former one was cut off
    assert shelf.prune(tmp_path, 3) == ["0.3.0", "0.4.0"]
    assert [one.version for one in shelf.every(tmp_path)] == ["0.1.0", "0.2.0", "0.5.0"]
    assert shelf.incomplete(tmp_path) == ["0.6.0"]
    assert not (tmp_path / "versions/.gone-0.0.1").exists()


def test_the_doctor_finds_what_was_cut_off_and_a_link_to_nothing(tmp_path: Path) -> None:
    assert looks.unfinished(tmp_path).state is State.OK
    journal.write(tmp_path, journal.Journal("activate", "0.2.0", "0.1.0", step="migrate"))
    found = looks.unfinished(tmp_path)
    assert (found.state, found.fix) == (State.FAILED, "customhouse release resume")
    with journal.held(tmp_path):
        assert looks.unfinished(tmp_path).state is State.OK
    shelf.point(tmp_path, "0.1.0")
    assert looks.links(tmp_path).state is State.FAILED
    python = tmp_path / "versions/0.1.0/venv/bin/python"
    python.parent.mkdir(parents=True)
    python.touch()
    assert looks.links(tmp_path).state is State.OK
    shelf.point(tmp_path, "0.0.9", installed.PREVIOUS)
    assert looks.links(tmp_path).state is State.WARNING
