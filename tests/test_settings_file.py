"""Settings: where each comes from, what is wrong with a file, and the file edited as a copy."""

import json
import os
import re
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from appliance import settings, settings_file, settings_told
from appliance.__main__ import root
from appliance.errors import Conflict, InvalidRequest, Misconfigured, Unavailable
from appliance.house import House
from appliance.settings import Settings

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def home(house: House, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith("CUSTOMHOUSE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CUSTOMHOUSE_HOME", str(house.settings.home))
    return house.settings.home


def write(home: Path, text: str) -> Path:
    path = home / "customhouse.toml"
    path.write_text(text)
    return path


def editor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *saved: str) -> None:
    """An $EDITOR that saves these texts, one each time it is called; the last one from then on."""
    for number, text in enumerate(saved):
        (tmp_path / f"saved-{number}").write_text(text)
    script = tmp_path / "editor.sh"
    script.write_text(
        f"n=$(ls {tmp_path}/called-* 2>/dev/null | wc -l); touch {tmp_path}/called-$n\n"
        f'[ -e {tmp_path}/saved-$n ] || n={len(saved) - 1}\ncat {tmp_path}/saved-$n > "$1"\n'
    )
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", f"sh {script}")


def run(*arguments: str, **how: Any) -> Result:
    return CliRunner().invoke(root, ["config", *arguments], **how)


def by_name(held: Settings, **how: Any) -> dict[str, settings_told.Setting]:
    return {one.name: one for one in settings_told.origins(held, **how)}


# --- origins ---------------------------------------------------------------------------------------------------------


def test_each_setting_says_where_it_comes_from(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(home, "[server]\nport = 9000\nhost = '0.0.0.0'\n")
    monkeypatch.setenv("CUSTOMHOUSE_SERVER_PORT", "9001")
    found = by_name(settings.load())
    port, host, workers = found["server.port"], found["server.host"], found["server.workers"]
    assert (port.value, port.origin, port.source, port.hides_file) == (
        9001,
        "environment",
        "CUSTOMHOUSE_SERVER_PORT",
        True,
    )
    assert (host.value, host.origin, host.source, host.is_changed) == ("0.0.0.0", "file", str(path), True)
    assert (workers.origin, workers.source, workers.is_changed) == ("default", "", False)
    assert (found["home"].origin, found["home"].source) == ("environment", "CUSTOMHOUSE_HOME")


def test_every_setting_has_its_documentation_and_says_who_reads_it(home: Path) -> None:
    found = settings_told.origins(settings.load())
    assert [one.name for one in found if not one.documentation] == []
    assert {name.partition(".")[0] for name in (one.name for one in found) if "." in name} <= set(settings_told.USED_BY)
    assert by_name(settings.load())["server.port"].used_by == ("api",)


def test_a_change_on_disk_waits_for_a_restart_and_is_said(home: Path) -> None:
    held = settings.load()
    write(home, "[retention]\nprompts_days = 7\n")
    found = by_name(held)["retention.prompts_days"]
    assert (found.value, found.pending, found.origin) == (30, 7, "file")
    write(home, "broken [")
    assert by_name(held)["retention.prompts_days"].pending is None


def test_the_credential_of_systemd_is_named(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stripe-key").write_text("rk_test_x")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    found = by_name(settings.load())["billing.stripe_key_file"]
    assert (found.origin, found.source) == ("credential", str(tmp_path / "stripe-key"))


def test_a_secret_in_an_address_is_never_shown(home: Path) -> None:
    write(home, '[billing]\nstripe_proxy = "http://me:s3cret@proxy.example:3128"\n')
    for arguments in (("show",), ("show", "--origin"), ("show", "--origin", "--json"), ("check", "--json")):
        said = run(*arguments).output
        assert "proxy.example" in said
        assert "s3cret" not in said
        assert "***" in said


# --- what is wrong ---------------------------------------------------------------------------------------------------


def test_every_wrong_key_is_named_with_its_reason(home: Path) -> None:
    write(home, '[server]\nprot = 1\nhost = 3\n[limits]\nburst_per_second = "x"\n[foo]\na = 1\n')
    found = {one.key: one.reason for one in settings_file.check().problems}
    assert found == {
        "server.prot": "there is no such setting; is server.port meant?",
        "server.host": "Expected `str`, got `int`",
        "limits.burst_per_second": "Expected `int`, got `str`",
        "foo": "there is no such setting",
    }


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ("x = ", "", "not valid TOML"),
        ("server = 3", "server", "must be a section"),
        ("[server]\nport = 0", "server.port", "must be 1 to 65535"),
        ("[worker]\nthreads = 0", "worker.threads", "must be at least 1"),
        ("[inference]\ndevice = 'gpu'", "inference.device", "must be auto, cpu or cuda"),
        ("[media]\nallowed_private_cidrs = ['x']", "media.allowed_private_cidrs", "is not a network"),
        ("[inference]\ntext_judge = 'nobody'", "", "has no such model"),
    ],
)
def test_what_is_wrong_is_said_with_its_key(home: Path, text: str, key: str, reason: str) -> None:
    write(home, text)
    [found] = settings_file.check().problems
    assert found.key == key
    assert reason in found.reason


@pytest.mark.parametrize(
    ("command", "longest"), [("up", "up-inference.sock"), ("infer", "inference.sock"), ("work", "webhooks.sock")]
)
def test_a_folder_whose_path_leaves_no_room_for_sockets_is_refused(home: Path, command: str, longest: str) -> None:
    """2026-11-22: each ended with a traceback. What is just short enough holds a socket, and is not refused."""
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        folder = Path(short) / ("x" * (107 - len(longest) - 1 - len(short) - 1))
        folder.mkdir()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
            one.bind(str(folder / longest))
        settings.check_socket(folder / longest)
        environ = {**os.environ, "CUSTOMHOUSE_RUNTIME_DIR": f"{folder}é"}
        asked = [sys.executable, "-m", "appliance", command]
        done = subprocess.run(asked, env=environ, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (1, "")
        said = rf"customhouse: runtime_dir is '.*', 2 bytes too long for {longest} to lie in it; .*\n"
        assert re.fullmatch(said, done.stderr), done.stderr


def test_the_check_as_json_names_the_problems(home: Path) -> None:
    write(home, "[server]\nport = 0\n")
    done = run("check", "--json")
    assert done.exit_code == 1
    said = json.loads(done.stdout)
    assert (said["ok"], said["problems"][0]["key"]) == (False, "server.port")


def test_a_file_that_is_named_and_not_there_is_a_problem(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUSTOMHOUSE_CONFIG", str(home / "nowhere.toml"))
    [found] = settings_file.check().problems
    assert "cannot be read" in found.reason


def test_the_file_that_shows_all_settings_has_no_problem(home: Path) -> None:
    assert settings_told.problems((ROOT / "config/customhouse.toml").read_text(), Path("x"), {}) == []


# --- editing ---------------------------------------------------------------------------------------------------------


def test_an_edit_replaces_the_file_keeps_its_mode_and_is_audited(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(home, "# mine\n[server]\nport = 9000\n")
    path.chmod(0o600)
    editor(
        monkeypatch, tmp_path, "# mine\n[server]\nport = 9100\n[billing]\nstripe_proxy = 'http://a:pw@b.example:1'\n"
    )
    done = json.loads(run("edit", "--json").stdout)
    assert {one["key"]: one["after"] for one in done["changed"]} == {
        "server.port": 9100,
        "billing.stripe_proxy": "http://***@b.example:1",
    }
    assert "port = 9100" in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    house = House(Settings(home=home))
    [line] = [dict(row) for row in house.db.reader().execute("SELECT * FROM audit WHERE action = 'settings.changed'")]
    house.close()
    assert line["actor"].startswith("operator:")
    assert line["subject"] == str(path)
    assert json.loads(line["detail"])["changed"]["server.port"] == {"before": 9000, "after": 9100}
    assert "pw@" not in line["detail"]


def test_a_file_is_made_where_there_was_none(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    editor(monkeypatch, tmp_path, "[log]\nlevel = 'debug'\n")
    assert 'log.level: — → "debug"' in run("edit").output
    assert stat.S_IMODE((home / "customhouse.toml").stat().st_mode) == 0o640


def test_a_wrong_edit_changes_nothing_and_loses_nothing(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(home, "[server]\nport = 9000\n")
    editor(monkeypatch, tmp_path, "[server]\nprot = 1\n# an hour's work\n")
    done = run("edit")
    assert isinstance(done.exception, Misconfigured)
    assert "is server.port meant?" in done.stderr
    assert path.read_text() == "[server]\nport = 9000\n"
    kept = Path(done.exception.message.rpartition(": ")[2])
    assert "an hour's work" in kept.read_text()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    kept.unlink()


def test_a_broken_file_can_be_mended(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(home, "[server\n")
    editor(monkeypatch, tmp_path, "[server]\nport = 9200\n")
    assert run("edit").exit_code == 0
    assert settings.load().server.port == 9200
    assert path.read_text().startswith("[server]")


def test_a_file_that_somebody_else_changed_meanwhile_is_left(home: Path, house: House) -> None:
    path = write(home, "[server]\nport = 9000\n")
    draft = settings_file.begin()
    draft.copy.write_text("[server]\nport = 9100\n")
    path.write_text("[server]\nport = 9200\n")
    with pytest.raises(Conflict, match="changed by somebody else"):
        settings_file.accept(house.db, draft, actor="test")
    assert path.read_text() == "[server]\nport = 9200\n"
    assert draft.copy.exists()
    settings_file.discard(draft)


def test_what_cannot_be_written_down_is_not_done(home: Path, house: House) -> None:
    path = write(home, "[server]\nport = 9000\n")
    draft = settings_file.begin()
    draft.copy.write_text("[server]\nport = 9100\n")
    house.db.write(lambda conn: conn.execute("ALTER TABLE audit RENAME TO audit_gone"))
    with pytest.raises(Unavailable):
        settings_file.accept(house.db, draft, actor="test")
    assert path.read_text() == "[server]\nport = 9000\n"
    assert "9100" in draft.copy.read_text()
    settings_file.discard(draft)


def test_an_edit_that_changes_nothing_leaves_no_line(home: Path, house: House) -> None:
    write(home, "[server]\nport = 9000\n")
    draft = settings_file.begin()
    assert settings_file.accept(house.db, draft, actor="test") == []
    assert not draft.copy.exists()
    assert house.db.reader().execute("SELECT count(*) FROM audit").fetchone()[0] == 0


def test_a_link_is_kept_and_what_it_leads_to_is_replaced(home: Path, tmp_path: Path, house: House) -> None:
    real = tmp_path / "etc.toml"
    real.write_text("[server]\nport = 9000\n")
    (home / "customhouse.toml").symlink_to(real)
    draft = settings_file.begin()
    draft.copy.write_text("[server]\nport = 9100\n")
    settings_file.accept(house.db, draft, actor="test")
    assert (home / "customhouse.toml").is_symlink()
    assert "9100" in real.read_text()


def test_an_editor_that_is_not_there_is_said_and_the_copy_kept(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", "no-such-editor-here")
    error = run("edit").exception
    assert isinstance(error, InvalidRequest)
    Path(error.message.rpartition(": ")[2]).unlink()


def test_without_a_file_to_read_none_is_edited(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidRequest, match="No settings file is read"):
        settings_file.begin({})
