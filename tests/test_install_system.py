"""./install.sh as the system's installation: what it does and in which order, with a Python that only notes what it is
asked, for one user and below one folder. For real, as root in a clean Debian: python -m tests.chroot."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_install import Checkout

ROOT = Path(__file__).resolve().parent.parent

NOTING_PYTHON = r"""#!/bin/bash
# Answers as python, pip, venv and customhouse would, and notes each call. KILL_ON=CALL: that one ends the installation.
here=$(dirname "$0")
case "$1 $2" in
"-c "*llama_cpp*) echo cpu; exit ;;
"-c "*ninja*) exit 1 ;;
"-c "*"import appliance"*) exit ;;
"-c "* | --version*) exec REAL "$@" ;;
esac
echo "$*" >>NOTES
[[ -z ${KILL_ON-} || "$*" != *"$KILL_ON"* ]] || kill -KILL $PPID $$
case "$*" in
"-m venv"*) mkdir -p "${!#}/bin" && cp "$0" "${!#}/bin/python" ;;
"-m pip"*" -e "*) cp "$0" "$here/customhouse" ;;
"-m appliance.doctor"*)
  printf '\nhost\n  ok   host.kernel  Linux\n  FAIL disk.home  9 MB are free\n       because x\n       fix: y\n\n'
  echo "2 checks in 0.1 s: 1 failed"
  exit "${DOCTOR-3}" ;;
"release describe"*) echo '{}' >"$3/release.json" ;;
"release activate"*)
  [[ -z ${FAIL_ACTIVATION-} ]] || exit 1
  [[ -f $5/versions/$3/release.json ]] || exit 9
  ln -sfn "versions/$3" "$5/current" ;;
"models fetch"*) [[ -f $CUSTOMHOUSE_HOME/weights/x ]] || echo weights >"$CUSTOMHOUSE_HOME/weights/x" ;;
"keys list --json") cat "$CUSTOMHOUSE_HOME/keys" 2>/dev/null || echo "[]" ;;
"keys create"*) echo "[1]" >"$CUSTOMHOUSE_HOME/keys"; echo "key-of-$6" ;;
"config show"*) echo '{"server": {"host": "0.0.0.0", "port": 8443}}' ;;
esac
exit 0
"""
UNIT = """[Unit]
Description=For the tests

[Service]
User=@USER@
Group=@GROUP@
ExecStart=@PREFIX@/current/venv/bin/customhouse serve
Environment=CUSTOMHOUSE_HOME=@HOME@ CUSTOMHOUSE_RUNTIME_DIR=@RUN@
# --- for the system's manager only (install.sh leaves this out of a user's) ---
ProtectSystem=strict
# --- end ---
NoNewPrivileges=yes

[Install]
WantedBy=multi-user.target
"""


class Box(Checkout):
    """A checkout, and somebody's home folder that it is installed in."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (self.bin / "id").unlink()
        self.put("python3", NOTING_PYTHON.replace("REAL", sys.executable).replace("NOTES", str(self.notes)))
        shutil.copytree(ROOT / "systemd/install", self.root / "systemd/install")
        (self.root / "systemd/customhouse-api.service").write_text(UNIT)
        (self.root / "appliance").mkdir()
        (self.root / "tui").mkdir()
        shutil.copy(ROOT / "appliance/__init__.py", self.root / "appliance")
        self.version = re.findall(r'^__version__ = "(.*)"', (ROOT / "appliance/__init__.py").read_text(), re.MULTILINE)[
            0
        ]
        self.house = folder / "house"
        self.prefix = folder / "prefix"
        self.etc = self.house / ".config/customhouse"
        self.units = self.house / ".config/systemd/user"
        self.command = self.house / ".local/bin/customhouse"
        self.house.mkdir()

    def ask(self, *arguments: str, given: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        self.notes.write_text("")
        return subprocess.run(
            ["bash", "install.sh", "--cpu", *arguments],
            cwd=self.root,
            env={
                "PATH": f"{self.bin}:/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME": str(self.house),
                "CUSTOMHOUSE_WHEELS": str(self.wheels),
                **environ,
            },
            capture_output=True,
            text=True,
            input=given,
        )

    def add(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return self.ask("--user", "--prefix", str(self.prefix), *arguments, **environ)

    @property
    def current(self) -> str:
        return os.readlink(self.prefix / "current")

    def everything(self) -> dict[str, object]:
        """All that is there, with modes and contents."""
        return {
            str(path.relative_to(self.house.parent)): (
                path.lstat().st_mode,
                path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None,
            )
            for place in (self.house, self.prefix)
            for path in sorted(place.rglob("*"))
        }


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_a_version_is_whole_before_it_is_activated(box: Box) -> None:
    done = box.add()
    assert done.returncode == 0, done.stderr
    said = [" ".join(call.split()[:2]) for call in box.calls]
    assert said[0] == "-m appliance.doctor"
    assert said.index("-m venv") < said.index("release describe") < said.index("release activate")
    assert said.index("models fetch") < said.index("release activate"), "no model, no verdict"
    assert box.current == f"versions/{box.version}"
    folder = box.prefix / "current"
    assert (folder / "source/appliance/__init__.py").is_file()
    assert f"-e {box.prefix}/versions/{box.version}/source" in "\n".join(box.calls)


def test_the_first_keys_are_shown_once(box: Box) -> None:
    done = box.add()
    assert "key-of-client" in done.stdout
    assert "key-of-admin" in done.stdout
    assert "key-of" not in box.add().stdout


def test_it_says_what_listens_where_and_what_to_let_in(box: Box) -> None:
    said = box.add().stdout
    assert "0.0.0.0:8443" in said
    assert "Whoever reaches this machine reaches it" in said
    assert "ufw allow from 10.0.0.0/8 to any port 8443 proto tcp" in said


def test_secrets_have_their_places_and_nobody_elses_rights(box: Box) -> None:
    box.add()
    for name in ("stripe-key", "tls-certificate", "tls-key"):
        assert (box.etc / "credentials" / name).stat().st_mode & 0o7777 == 0o600
    assert (box.etc / "credentials").stat().st_mode & 0o7777 == 0o700
    assert (box.etc / "environment").stat().st_mode & 0o7777 == 0o640
    assert (box.prefix / "home").stat().st_mode & 0o7777 == 0o750
    (box.etc / "credentials/stripe-key").write_text("rk_test_x")
    box.add()
    assert (box.etc / "credentials/stripe-key").read_text() == "rk_test_x"


def test_run_again_it_changes_nothing_and_says_so(box: Box) -> None:
    box.add()
    before = box.everything()
    done = box.add()
    assert done.returncode == 0, done.stderr
    assert box.everything() == before
    assert "nothing has changed" in done.stdout
    assert not [call for call in box.calls if call.startswith(("-m pip", "-m venv", "release"))]


def test_what_the_operator_wrote_stays(box: Box) -> None:
    box.add()
    for name in ("customhouse.toml", "environment"):
        (box.etc / name).write_text("# mine\n")
    done = box.ask("--cuda", "--user", "--prefix", str(box.prefix))
    assert done.returncode == 0, done.stderr
    assert (box.etc / "customhouse.toml").read_text() == (box.etc / "environment").read_text() == "# mine\n"
    assert "CUSTOMHOUSE_INFERENCE_DEVICE=cuda" in done.stdout


def test_other_sources_of_the_same_number_lie_beside(box: Box) -> None:
    box.add()
    (box.root / "appliance/more.py").write_text("")
    assert box.add().returncode == 0
    assert box.current == f"versions/{box.version}.r2"
    assert (box.prefix / "versions" / box.version / "release.json").is_file()
    (box.root / "appliance/more.py").write_text("1\n")
    assert box.add().returncode == 0
    assert box.current == f"versions/{box.version}.r3"


def test_killed_at_any_step_it_is_run_again_and_nothing_half_made_is_current(box: Box) -> None:
    """Everything that takes time is a call; each is killed in a run of its own, over what the one before left."""
    link = box.prefix / "current"
    for call in (
        "appliance.doctor",
        "-m venv",
        "--require-hashes",
        "llama_cpp_python",
        " -e ",
        "compileall",
        "release describe",
        "models fetch",
        "release activate",
        "keys create",
    ):
        assert box.add(KILL_ON=call).returncode != 0, f"{call} is not called"
        assert not link.is_symlink() or (link / "release.json").is_file(), f"half made at {call}"
    assert link.is_symlink()
    assert box.add().returncode == 0
    assert "nothing has changed" in box.add().stdout
    assert box.current == f"versions/{box.version}"
    assert not list(box.prefix.rglob("*.half"))


def test_an_upgrade_that_is_killed_leaves_what_runs_alone(box: Box) -> None:
    box.add()
    first = box.everything()
    (box.root / "appliance/more.py").write_text("")
    assert box.add(KILL_ON="compileall").returncode != 0
    assert box.current == f"versions/{box.version}"
    kept = f"prefix/versions/{box.version}/"
    assert {name: what for name, what in box.everything().items() if name.startswith(kept)} == {
        name: what for name, what in first.items() if name.startswith(kept)
    }
    (box.root / "appliance/more.py").write_text("2\n")
    assert box.add().returncode == 0
    assert sorted(path.name for path in (box.prefix / "versions").iterdir()) == [box.version, f"{box.version}.r2"]


def test_an_activation_that_fails_puts_the_units_back(box: Box) -> None:
    box.add()
    unit = box.units / "customhouse-api.service"
    before = unit.read_text()
    (box.root / "systemd/customhouse-api.service").write_text(UNIT + "# newer\n")
    done = box.add(FAIL_ACTIVATION="1")
    assert done.returncode == 1
    assert "could not be activated" in done.stderr
    assert unit.read_text() == before
    assert box.current == f"versions/{box.version}"
    assert box.add().returncode == 0
    assert unit.read_text().endswith("# newer\n")


def test_what_the_doctor_finds_failed_stops_it_before_anything_is_made(box: Box) -> None:
    done = box.add(DOCTOR="1")
    assert done.returncode == 1
    assert "FAIL disk.home" in done.stdout
    assert "fix: y" in done.stdout
    assert "host.kernel" not in done.stdout
    assert not box.prefix.exists()
    assert box.add("--force", DOCTOR="1").returncode == 0


@pytest.mark.parametrize("user", ["1000", "0"])
def test_a_dry_run_says_every_step_and_touches_nothing(box: Box, user: str) -> None:
    before = box.everything()
    box.put("id", f"#!/bin/bash\necho {user}\n")
    arguments = () if user == "0" else ("--user", "--prefix", str(box.prefix))
    done = box.ask("--dry-run", *arguments)
    assert done.returncode == 0, done.stderr
    for step in ("-m venv", "--require-hashes", "models fetch", "customhouse.toml", "release activate", "keys"):
        assert step in done.stdout
    assert [call.split()[1] for call in box.calls] == ["appliance.doctor"]
    assert box.everything() == before
    if user == "0":
        assert "/opt/customhouse/versions" in done.stdout
        assert "customhouse" in done.stdout


def test_without_root_it_says_what_to_run(box: Box) -> None:
    box.put("id", "#!/bin/bash\necho 1000\n")
    done = box.ask()
    assert done.returncode == 1
    assert "sudo ./install.sh" in done.stderr
    assert "--user" in done.stderr


def test_units_are_filled_in_and_a_users_manager_is_asked_for_no_other_user(box: Box) -> None:
    box.add()
    unit = (box.units / "customhouse-api.service").read_text()
    assert f"ExecStart={box.prefix}/current/venv/bin/customhouse serve" in unit
    assert f"CUSTOMHOUSE_HOME={box.prefix}/home" in unit
    assert "User=" not in unit
    assert "ProtectSystem" not in unit
    assert "NoNewPrivileges=yes" in unit
    assert "WantedBy=default.target" in unit
    (box.root / "systemd/customhouse-api.service").write_text(UNIT + "# @NOBODY@\n")
    done = box.add()
    assert done.returncode == 1
    assert "@NOBODY@" in done.stderr


@pytest.mark.parametrize(("version", "added"), [(252, []), (254, ["RestartSteps=6"])])
def test_a_unit_has_what_this_systemd_knows(box: Box, version: int, added: list[str]) -> None:
    (box.root / "systemd/customhouse-backoff.conf").write_text("[Service]\nRestartSteps=6\n")
    box.put("systemctl", f'#!/bin/bash\necho "systemd {version} ({version}.38-1~deb12u1)"\n')
    assert box.add().returncode == 0
    found = [path.read_text() for path in box.units.rglob("10-backoff.conf")]
    assert [text.splitlines()[-1] for text in found] == added * 3
    assert box.add("--uninstall").returncode == 0
    assert not list(box.units.iterdir())


def test_where_systemd_is_it_is_told(box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = tmp_path / "run"
    (runtime / "systemd").mkdir(parents=True)
    monkeypatch.chdir(runtime / "systemd")
    box.put("systemctl", f'#!/bin/bash\necho "systemctl $*" >>{box.notes}\n')
    with socket.socket(socket.AF_UNIX) as door:
        door.bind("private")
        assert box.add(XDG_RUNTIME_DIR=str(runtime)).returncode == 0
        told = [call for call in box.calls if call.startswith("systemctl --user")]
        assert told[:2] == ["systemctl --user daemon-reload", "systemctl --user --quiet enable customhouse-api.service"]
        assert box.add("--uninstall", XDG_RUNTIME_DIR=str(runtime)).returncode == 0
        assert "systemctl --user --quiet disable --now customhouse-api.service" in box.calls


def test_the_command_has_the_services_settings_and_the_callers_come_first(box: Box) -> None:
    box.add()
    with (box.etc / "environment").open("a") as file:
        file.write(
            'CUSTOMHOUSE_SERVER_PORT="9000"\nCUSTOMHOUSE_LOG_LEVEL=debug\nPATH=/nowhere\nCUSTOMHOUSE_X; echo=1\n'
        )
    program = box.prefix / "current/venv/bin/customhouse"
    program.write_text('#!/bin/sh\nenv | grep "^CUSTOMHOUSE_"; echo "asked $*"\n')
    done = subprocess.run(
        [str(box.command), "status"],
        env={"PATH": "/usr/bin:/bin", "CUSTOMHOUSE_LOG_LEVEL": "error"},
        capture_output=True,
        text=True,
        check=True,
    )
    said = done.stdout.splitlines()
    assert f"CUSTOMHOUSE_HOME={box.prefix}/home" in said
    assert f"CUSTOMHOUSE_CONFIG={box.etc}/customhouse.toml" in said
    assert "CUSTOMHOUSE_SERVER_PORT=9000" in said
    assert "CUSTOMHOUSE_LOG_LEVEL=error" in said
    assert said[-1] == "asked status"


def test_root_becomes_the_services_user_unless_it_changes_versions(box: Box, tmp_path: Path) -> None:
    box.add()
    text = box.command.read_text()
    box.command.write_text(re.sub(r"^owner=.*$", "owner='customhouse'", text, flags=re.MULTILINE))
    (box.prefix / "current/venv/bin/customhouse").write_text('#!/bin/sh\necho "as root: $*"\n')
    box.put("runuser", '#!/bin/sh\necho "dropped: $*"\n')
    box.put("id", "#!/bin/sh\necho 0\n")

    def said(*arguments: str) -> str:
        path = {"PATH": f"{box.bin}:/usr/bin:/bin"}
        return subprocess.run([str(box.command), *arguments], env=path, capture_output=True, text=True).stdout

    assert said("keys", "list").startswith("dropped: -u customhouse -- ")
    assert said("rollback") == "as root: rollback\n"
    assert said("release", "list") == "as root: release list\n"


def test_another_command_of_that_name_is_not_written_over(box: Box) -> None:
    box.command.parent.mkdir(parents=True)
    box.command.write_text("#!/bin/sh\necho mine\n")
    done = box.add()
    assert done.returncode == 1
    assert "not ours" in done.stderr
    assert "mine" in box.command.read_text()
    assert not (box.prefix / "current").exists()


def test_the_prefix_is_found_again_by_the_command(box: Box) -> None:
    box.add()
    assert "nothing has changed" in box.ask("--user").stdout


def test_uninstalling_keeps_state_and_settings_and_says_where(box: Box) -> None:
    box.add()
    done = box.ask("--user", "--uninstall")
    assert done.returncode == 0, done.stderr
    assert str(box.prefix / "home") in done.stdout
    assert str(box.etc) in done.stdout
    assert [path.name for path in box.prefix.iterdir()] == ["home"]
    assert (box.etc / "customhouse.toml").is_file()
    assert not box.command.exists()
    assert not list(box.units.iterdir())
    assert "there was nothing to remove" in box.add("--uninstall").stdout


def test_purging_needs_the_word(box: Box) -> None:
    box.add()
    before = box.everything()
    for word in ("", "yes\n"):
        done = box.ask("--user", "--uninstall", "--purge", given=word)
        assert done.returncode == 1
        assert "nothing was removed" in done.stderr
    assert box.everything() == before
    assert box.ask("--user", "--uninstall", "--purge", given="purge\n").returncode == 0
    assert not box.prefix.exists()
    assert not box.etc.exists()


def test_purging_with_yes_asks_nothing_and_leaves_what_is_not_ours(box: Box) -> None:
    box.add()
    (box.prefix / "photographs").mkdir()
    assert box.ask("--user", "--uninstall", "--purge", "--yes").returncode == 0
    assert [path.name for path in box.prefix.iterdir()] == ["photographs"]


@pytest.mark.parametrize(
    "arguments",
    [["--purge"], ["--prefix"], ["--prefix", "/"], ["--prefix", "/opt"], ["--prefix", "/tmp/a b"], ["--bundle"]],
)
def test_a_wrong_argument_is_answered_with_the_usage(box: Box, arguments: list[str]) -> None:
    done = box.ask("--user", *arguments)
    assert done.returncode == 2
    assert "usage: sudo ./install.sh" in done.stderr


def test_what_git_tracks_is_copied_and_without_git_all_but_what_is_made(box: Box) -> None:
    (box.root / ".customhouse").mkdir()
    (box.root / ".customhouse/made").touch()
    (box.root / "appliance/__pycache__").mkdir()
    (box.root / "appliance/__pycache__/x.pyc").touch()
    (box.root / "appliance/with space.py").touch()
    box.add()
    source = box.prefix / "current/source"
    assert (source / "appliance/with space.py").is_file()
    assert not (source / ".customhouse").exists()
    assert not list(source.rglob("*.pyc"))
    git = ["git", "-C", str(box.root), "-c", "user.name=a", "-c", "user.email=a@b.example"]
    for command in (["init", "-q"], ["add", "install.sh", "appliance", "config", "systemd", "pyproject.toml"]):
        subprocess.run([*git, *command], check=True)
    (box.root / "untracked").touch()
    (box.root / "appliance/with space.py").unlink()
    box.add()
    assert box.current.endswith(".r2")
    assert (source / "install.sh").is_file()
    assert not (source / "untracked").exists()
    assert not (source / "appliance/with space.py").exists()


def test_every_script_of_it_is_checked() -> None:
    from tests.__main__ import SCRIPTS

    assert {Path(one).name for one in SCRIPTS} >= {"install.sh", "system.sh", "remove.sh"}
