"""The doctor itself: deadlines, faults of checks, what --fix does and leaves alone, the commands, no package at all."""

import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from appliance import audit, doctor
from appliance.__main__ import root
from appliance.audit import Filter
from appliance.doctor import CHECKS, GROUPS, Check, State
from appliance.doctor import context as contexts
from appliance.doctor.examine import examine
from appliance.doctor.finding import Outcome, Report, failed, ok, skipped, warning
from appliance.doctor.nvidia import Driver
from appliance.house import House
from tests import made
from tests.cast import enrol
from tests.doctored import Stage

SOURCE = Path(__file__).resolve().parent.parent


@pytest.fixture
def stage(house: House, tmp_path: Path) -> Stage:
    return Stage(house, tmp_path)


def check(look: Callable[[Any], Outcome], **given: Any) -> Check:
    return Check("try.it", "A try", "About it.", look, **given)


# --- looking ----------------------------------------------------------------------------------------------------------


def test_a_check_that_raises_is_a_failed_one_with_the_last_line(stage: Stage) -> None:
    def look(_: object) -> Outcome:
        raise ValueError("not as it ever should be")

    (finding,) = examine([check(look)], stage.context).findings
    assert finding.state is State.FAILED
    assert "ValueError: not as it ever should be" in finding.says
    assert finding.evidence["raised"] == "ValueError"


def test_a_check_that_hangs_is_given_up_and_holds_nobody_up(stage: Stage) -> None:
    over = threading.Event()

    def hang(_: object) -> Outcome:
        over.wait(20)
        return ok("late")

    hangs = [Check(f"try.{n}", "", "", hang, deadline_s=0.1) for n in range(8)]
    report = examine([*hangs, check(lambda _: ok("well"))], stage.context)
    over.set()
    assert [finding.state for finding in report.findings] == [State.FAILED] * 8 + [State.OK]
    assert "no answer within 0.1 s" in report.findings[0].says


def test_what_this_user_may_not_read_is_skipped_and_said(stage: Stage) -> None:
    def look(_: object) -> Outcome:
        raise PermissionError(13, "Permission denied", "/srv/pepper")

    (finding,) = examine([check(look)], stage.context).findings
    assert (finding.state, finding.says.partition(" cannot")[0]) == (State.SKIPPED, "/srv/pepper")


def test_a_file_that_is_no_database_is_a_damaged_one(stage: Stage) -> None:
    home = stage.tmp / "other"
    home.mkdir()
    (home / "customhouse.db").write_bytes(b"nothing of the sort" * 1000)
    other = replace(stage.context, settings=msgspec.structs.replace(stage.settings, home=home))
    found = {one.id: one for one in doctor.run(["database", "queue", "webhooks"], other).findings}
    assert found["database.integrity"].state is State.FAILED
    assert found["database.integrity"].evidence["wrong"] == 1
    assert all(one.state in (State.FAILED, State.SKIPPED, State.OK) for one in found.values())


def test_what_cannot_be_looked_at_is_skipped_with_the_reason(stage: Stage) -> None:
    nowhere = replace(stage.context, settings=None, trouble="it is broken")
    (finding,) = doctor.run(["database.lock"], nowhere).findings
    assert (finding.state, finding.says) == (State.SKIPPED, "The settings cannot be read; see settings.parse")


def test_findings_come_in_the_order_of_the_checks(stage: Stage) -> None:
    report = doctor.run(["clock", "host"], stage.context)
    assert [one.id for one in report.findings] == [one.id for one in (*GROUPS["clock"], *GROUPS["host"])]


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([ok("a"), skipped("b")], 0),
        ([ok("a"), warning("b", cause="c", fix="d")], 3),
        ([warning("b", cause="c", fix="d"), failed("a", cause="c", fix="d")], 1),
    ],
)
def test_the_exit_code_tells_failures_from_warnings(stage: Stage, outcomes: list[Outcome], code: int) -> None:
    checks = [Check(f"try.{n}", "", "", lambda _, one=one: one) for n, one in enumerate(outcomes)]
    assert examine(checks, stage.context).exit_code == code


def test_every_check_is_explained_and_belongs_to_its_group() -> None:
    assert len(CHECKS) == sum(map(len, GROUPS.values())) >= 50
    for group, checks in GROUPS.items():
        for one in checks:
            assert one.id.partition(".")[0] == group == one.group
            assert one.title
            assert len(one.about) > 20
            assert one.deadline_s > 0


def test_quick_and_early_leave_out_what_they_say(stage: Stage) -> None:
    quick = {
        one.id for one in examine(list(CHECKS.values()), replace(stage.context, is_quick=True, is_early=True)).findings
    }
    assert quick == {id for id, one in CHECKS.items() if one.is_early and not one.is_slow}
    assert "models.golden" not in quick
    assert {"host.kernel", "gpu.present", "ports.port"} <= quick


# --- mending ----------------------------------------------------------------------------------------------------------


def _lines(house: House) -> list[tuple[str, str, str]]:
    return [
        (line.actor, line.action, line.subject)
        for line in audit.page(house.db.reader(), Filter(action="doctor.mended"))
    ]


def _mended(stage: Stage, id: str) -> Report:
    report = doctor.run([id], stage.context, mends=True)
    (finding,) = report.findings
    assert finding.state is State.OK, finding
    assert finding.mended
    assert _lines(stage.house) == [(audit.operator(), "doctor.mended", id)]
    return report


def test_fix_takes_the_rights_of_others_away_and_writes_who_did(stage: Stage) -> None:
    pepper = stage.settings.pepper_file.read_bytes()
    stage.settings.pepper_file.chmod(0o644)
    _mended(stage, "permissions.secrets")
    assert stat.S_IMODE(stage.settings.pepper_file.stat().st_mode) == 0o600
    assert stage.settings.pepper_file.read_bytes() == pepper


@pytest.mark.parametrize("name", ["home", "database", "media", "weights"])
def test_fix_tightens_every_place(stage: Stage, name: str) -> None:
    for path in (stage.settings.home, *stage.settings.home.rglob("*")):
        path.chmod(path.stat().st_mode | 0o007)
    _mended(stage, f"permissions.{name}")


def test_fix_makes_the_missing_folder(stage: Stage) -> None:
    stage.settings.media_dir.rmdir()
    _mended(stage, "disk.media")
    assert stat.S_IMODE(stage.settings.media_dir.stat().st_mode) == 0o750


def test_fix_removes_dead_sockets_and_no_living_one(stage: Stage) -> None:
    dead = stage.dead_socket("inference.sock")
    with stage.doorbells("prompts"):
        _mended(stage, "sockets.stale")
        assert not dead.exists()
        assert (stage.settings.run_dir / "prompts.sock").is_socket()


def test_fix_clears_up_old_leftovers_only(stage: Stage) -> None:
    weights = stage.settings.weights_dir
    old, young, model = weights / ".scratch-old", weights / ".scratch-young", weights / "tiny" / "model.onnx"
    for folder in (old, young):
        folder.mkdir()
    os.utime(old, (0, 0))
    os.utime(model, (0, 0))
    _mended(stage, "disk.leftovers")
    assert (old.exists(), young.exists(), model.exists()) == (False, True, True)


def test_fix_makes_a_missing_index(stage: Stage) -> None:
    stage.drop("DROP INDEX job_of_org")
    _mended(stage, "database.indices")


def test_fix_removes_a_damaged_queue_which_is_filled_again(stage: Stage) -> None:
    stage.settings.queue.write_bytes(b"no database" * 1000)
    (finding,) = doctor.run(["queue.file"], stage.context, mends=True).findings
    assert finding.mended
    assert finding.state is State.SKIPPED  # it is made when something starts
    assert not stage.settings.queue.exists()


def test_fix_leaves_a_damaged_queue_alone_while_a_worker_runs(stage: Stage) -> None:
    import fcntl

    stage.settings.queue.write_bytes(b"no database" * 1000)
    with (stage.settings.run_dir / "worker.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (finding,) = doctor.run(["queue.file"], stage.context, mends=True).findings
    assert finding.state is State.FAILED
    assert "a worker runs" in finding.cause
    assert stage.settings.queue.exists()
    assert not _lines(stage.house)


def test_fix_empties_the_write_ahead_log(stage: Stage) -> None:
    assert stage.mend("database.log") == "emptied the write-ahead log"
    log = stage.settings.database.with_name("customhouse.db-wal")
    assert not log.exists() or log.stat().st_size == 0


def test_fix_touches_nothing_that_could_be_missed(stage: Stage) -> None:
    """All at once, on a house where much is wrong: every row and every file of value is as before."""
    person = enrol(stage.house, "A", "alice")
    made.insert(stage.house, made.random_jobs(person.org_id, 30, 1, stage.now_ms(), seed=3))
    stage.settings.home.chmod(0o777)
    stage.drop("DROP INDEX job_of_org")
    stage.drop("DROP TRIGGER audit_only_inserted")  # not for --fix: somebody has to ask why
    before = [tuple(row) for row in stage.house.db.reader().execute("SELECT * FROM job")]
    weights, pepper = stage.weights.read_bytes(), stage.settings.pepper_file.read_bytes()
    report = doctor.run(["permissions", "database", "queue", "disk", "sockets"], stage.context, mends=True)
    assert [tuple(row) for row in stage.house.db.reader().execute("SELECT * FROM job")] == before
    assert (stage.weights.read_bytes(), stage.settings.pepper_file.read_bytes()) == (weights, pepper)
    states = {finding.id: finding.state for finding in report.findings}
    assert states["permissions.home"] is states["database.indices"] is State.OK
    assert states["database.triggers"] is State.FAILED


# --- the commands -----------------------------------------------------------------------------------------------------


def _command(stage: Stage, *arguments: str, **environ: str) -> Any:
    home = {"CUSTOMHOUSE_HOME": str(stage.settings.home), "CUSTOMHOUSE_SERVER_PORT": str(stage.port)}
    return CliRunner().invoke(root, ["doctor", *arguments], env={**home, **environ})


def test_the_command_says_what_is_wrong_and_what_to_do(stage: Stage) -> None:
    stage.settings.pepper_file.chmod(0o644)
    done = _command(stage, "permissions.secrets")
    assert done.exit_code == 1
    assert "FAIL permissions.secrets" in done.output
    assert f"fix: chmod 600 {stage.settings.pepper_file}" in done.output
    assert _command(stage, "permissions.secrets", "--fix").exit_code == 0
    assert _command(stage, "permissions.secrets").exit_code == 0


def test_the_command_as_json_has_everything(stage: Stage) -> None:
    said = json.loads(_command(stage, "clock", "--json").output)
    assert {"id", "group", "title", "state", "says", "evidence", "cause", "fix", "mendable", "took_ms"} <= said[
        "findings"
    ][0].keys()
    assert said["exit_code"] in (0, 3)


def test_the_command_explains_each_check(stage: Stage) -> None:
    for id, one in CHECKS.items():
        done = _command(stage, "--explain", id)
        assert done.exit_code == 0
        assert one.about in " ".join(done.output.split())
    assert json.loads(_command(stage, "--explain", "host.kernel", "--json").output)["id"] == "host.kernel"
    assert _command(stage, "--explain", "no.such").exit_code == 2


def test_the_command_lists_the_checks_and_refuses_what_is_none(stage: Stage) -> None:
    listed = json.loads(_command(stage, "--list", "--json").output)
    assert sum(map(len, listed.values())) == len(CHECKS)
    assert all(id in _command(stage, "--list").output for id in CHECKS)
    assert _command(stage, "nonsense").exit_code == 2


def test_broken_settings_are_a_finding_and_no_crash(stage: Stage) -> None:
    done = _command(stage, "settings", "host.kernel", "database.lock", CUSTOMHOUSE_SERVER_PORT="none")
    assert done.exit_code == 1
    assert "FAIL settings.parse" in done.output
    assert "host.kernel" in done.output
    assert "Traceback" not in done.output


def test_before_the_installation_nothing_is_made(tmp_path: Path) -> None:
    home = tmp_path / "not-yet"
    found = contexts.make({**os.environ, "CUSTOMHOUSE_HOME": str(home)}, is_early=True, is_quick=True)
    report = doctor.run((), found)
    assert len(report.findings) >= 40
    assert not home.exists()
    assert not list(tmp_path.iterdir())


def test_it_runs_without_a_single_package(tmp_path: Path) -> None:
    """Python alone, as on a machine on which nothing is installed: what is missing is a finding."""
    environ = {"PATH": os.environ["PATH"], "CUSTOMHOUSE_HOME": str(tmp_path / "home")}
    ran = subprocess.run(
        [sys.executable, "-S", "-m", "appliance.doctor", "--json", "--quick"],
        cwd=SOURCE,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.stderr == ""
    found = {one["id"]: one for one in json.loads(ran.stdout)["findings"]}
    assert ran.returncode in (1, 3)
    assert found["python.packages"]["state"] == "warning"
    assert "msgspec" in found["python.packages"]["evidence"]["missing"]
    assert found["settings.parse"]["state"] == "skipped"
    assert "msgspec" in found["settings.parse"]["says"]
    assert found["host.kernel"]["state"] == "ok"
    assert found["ports.port"]["evidence"]["port"] == 8000
    assert [one["says"] for one in found.values() if "could not be made" in one["says"]] == []


def test_a_house_in_order_has_no_failure(stage: Stage) -> None:
    """Everything at once, concurrently, on the stage: no check stands in another's way."""
    with stage.api(), stage.model_process(), stage.door(stage.settings.admin_socket), stage.doorbells():
        stage.backup()
        left_out = {"gpu", "python", "models.golden", "egress.models", "host.files"}
        names = [id for id, one in CHECKS.items() if not {id, one.group} & left_out]
        report = doctor.run(names, stage.context)
    assert {one.id: one.says for one in report.findings if one.state is State.FAILED} == {}


def test_before_the_packages_are_there_a_driver_that_is_loaded_is_no_fault(stage: Stage) -> None:
    stage.file("sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n")
    stage.file("sys/bus/pci/devices/0000:01:00.0/class", "0x030200\n")
    blind = stage.cards(Driver(why="the package nvidia-ml-py is missing", is_blind=True))
    assert stage.look("gpu.present", blind).state is State.FAILED
    stage.file("proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.82\n")
    assert stage.look("gpu.present", blind).state is State.OK


@pytest.mark.weights
def test_what_runs_is_seen_as_it_is(models_served: Any) -> None:
    """Real processes with real models: who answers, what is loaded, and that the model process is alone."""
    names = ["ports.port", "ports.health", "sockets", "models.running", "egress.models", "queue.worker", "database"]
    report = doctor.run([*names, "models.golden"], contexts.make(models_served._environ))
    states = {one.id: (one.state, one.says) for one in report.findings}
    for id in (
        "ports.port",
        "sockets.inference",
        "sockets.doorbells",
        "models.running",
        "egress.models",
        "queue.worker",
    ):
        assert states[id][0] is State.OK, states[id]
    assert states["models.golden"][0] is State.OK, states["models.golden"]
    assert not [one for one in states.values() if one[0] is State.FAILED]


def test_the_canary_is_asked_on_this_machine_and_is_right() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "appliance.doctor.canary", "cpu"], cwd=SOURCE, capture_output=True, text=True, check=True
    )
    said = json.loads(ran.stdout)
    assert (said["device"], said["providers"], said["is_right"]) == ("cpu", ["CPUExecutionProvider"], True)
    assert said["run_ms"] > 0
