"""install.sh and the pinned lists, with a Python that only notes what it is asked. For real: ./install.sh test."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests import lock

ROOT = Path(__file__).resolve().parent.parent

NOTING_PYTHON = r"""#!/bin/bash
# Answers as python, pip, venv and customhouse would, and notes each call.
here=$(dirname "$0")
case "$1 $2" in
"-c "*llama_cpp*) echo cpu ;;
"-c "*ninja*) exit 1 ;;
"-c "* | --version*) exec REAL "$@" ;;
"-m venv")
  echo "venv" >>NOTES
  mkdir -p "${!#}/bin" && cp "$0" "${!#}/bin/python" ;;
"-m pip")
  echo "pip $*" >>NOTES
  echo "Looking in indexes: https://someone:secret@index.example/simple"
  echo "Collecting thing==1.0 from https://someone:secret@index.example/thing.whl"
  [[ -z ${KILL_PIP-} ]] || kill -KILL $PPID $$
  [[ -z ${FAIL_PIP-} ]] || { echo "ERROR: digest differs: https://someone:secret@index.example/x"; exit 1; }
  [[ "$*" != *" -e "* ]] || { cp "$0" "$here/customhouse"; chmod +x "$here/customhouse"; } ;;
*) echo "run $*" >>NOTES ;;
esac
"""
NOTING_NPM = r"""#!/bin/bash
echo "npm $*" >>NOTES
echo "npm http fetch GET 200 https://someone:secret@index.example/thing.tgz"
[[ -z ${FAIL_NPM-} ]] || exit 1
mkdir -p "$3/node_modules"
"""


class Checkout:
    """A copy of what install.sh needs, and a PATH where python3 is the one above and nothing needs root."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "checkout"
        self.notes = folder / "notes"
        self.bin = folder / "bin"
        self.wheels = folder / "wheels"
        for path in (self.bin, self.wheels, self.root):
            path.mkdir()
        shutil.copy(ROOT / "install.sh", self.root)
        shutil.copy(ROOT / "pyproject.toml", self.root)
        shutil.copytree(ROOT / "config", self.root / "config")
        tools = "awk basename bash cat chmod cp date df dirname flock grep head mkdir mv rm sed sha256sum stat tail"
        for tool in [*tools.split(), "tar", "tee", "tr", "uname", "wc"]:
            (self.bin / tool).symlink_to(str(shutil.which(tool)))
        self.put("python3", NOTING_PYTHON.replace("REAL", sys.executable).replace("NOTES", str(self.notes)))
        self.put("id", "#!/bin/bash\necho 1000\n")
        shutil.copytree(ROOT / "tests/node", self.root / "tests/node")
        for tool in ("cc", "c++"):
            self.put(tool, "#!/bin/bash\n")
        self.put("npm", NOTING_NPM.replace("NOTES", str(self.notes)))
        self.put("node", "#!/bin/bash\necho 20\n")
        pin = (ROOT / "config/requirements-llama.txt").read_text()
        version = re.findall(r"^llama-cpp-python==(\S+)", pin, re.MULTILINE)[0]
        (self.wheels / f"llama_cpp_python-{version}-py3-none-linux_x86_64.whl").touch()

    def put(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def install(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        self.notes.write_text("")
        return subprocess.run(
            ["bash", "install.sh", "--cpu", *arguments],
            cwd=self.root,
            env={"PATH": str(self.bin), "CUSTOMHOUSE_WHEELS": str(self.wheels), **environ},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )

    @property
    def calls(self) -> list[str]:
        return self.notes.read_text().splitlines()

    @property
    def runs(self) -> list[str]:
        return [call for call in self.calls if call.startswith("run ")]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_try_sets_up_fetches_the_weights_and_runs_the_demo(checkout: Checkout) -> None:
    done = checkout.install("try", "--keep", "--port", "9000")
    assert done.returncode == 0, done.stderr
    assert checkout.calls[0] == "venv"
    assert "--require-hashes" in checkout.calls[1]
    home = checkout.root / ".customhouse"
    assert checkout.runs == ["run models fetch", f"run demo --home {home} --keep --port 9000"]


def test_run_again_it_installs_nothing(checkout: Checkout) -> None:
    checkout.install("try")
    assert checkout.install("try").returncode == 0
    assert checkout.calls == checkout.runs


def test_a_wheel_that_was_lent_is_kept(checkout: Checkout) -> None:
    checkout.install("try")
    shutil.rmtree(checkout.wheels)
    assert checkout.install("try", CUSTOMHOUSE_WHEELS="").returncode == 0
    assert checkout.calls == checkout.runs


def test_models_named_are_fetched_beside_the_starter_set(checkout: Checkout) -> None:
    checkout.install("try", "--models", "qwen3guard-0.6b,qwen3-vl-2b")
    assert checkout.runs[:2] == ["run models fetch", "run models fetch qwen3guard-0.6b qwen3-vl-2b"]


def test_arguments_of_test_go_on(checkout: Checkout) -> None:
    done = checkout.install("test", "-k", "webhook or job", "--golden")
    assert done.returncode == 0, done.stderr
    assert "requirements-test.txt" in checkout.calls[1]
    assert checkout.runs[-1] == "run -m tests -k webhook or job --golden"


def test_localstripe_has_an_environment_of_its_own_and_only_for_the_tests(checkout: Checkout) -> None:
    """GPL: the tests start it as a program. It is in no list that anything of ours is installed from."""
    oracle = checkout.root / ".customhouse/oracle"
    checkout.install("try")
    assert not oracle.exists()
    checkout.install("test")
    assert [call for call in checkout.calls if "requirements-oracle.txt" in call] == [
        f"pip -m pip install --no-input --require-hashes -r {checkout.root}/config/requirements-oracle.txt"
    ]
    assert oracle.exists()
    checkout.install("test")
    assert checkout.calls == checkout.runs
    others = [path for path in LISTS if path.name != "requirements-oracle.txt"]
    assert [path.name for path in others if "localstripe" in lock.names(path)] == []


def test_litellm_has_an_environment_of_its_own_and_its_list_is_taken_as_it_stands(checkout: Checkout) -> None:
    folder = checkout.root / ".customhouse/litellm"
    checkout.install("try")
    assert not folder.exists()
    checkout.install("test")
    assert [call for call in checkout.calls if "requirements-litellm.txt" in call] == [
        f"pip -m pip install --no-input --no-deps --require-hashes -r {checkout.root}/config/requirements-litellm.txt"
    ]
    assert folder.exists()
    others = [path for path in LISTS if path.name != "requirements-litellm.txt"]
    assert [path.name for path in others if "litellm" in lock.names(path)] == []


def test_the_node_clients_are_installed_from_their_lock_and_only_for_the_tests(checkout: Checkout) -> None:
    node = checkout.root / ".customhouse/node"
    checkout.install("try")
    assert not node.exists()
    done = checkout.install("test", FAIL_NPM="1")
    assert done.returncode == 1
    assert "secret" not in done.stdout + done.stderr
    checkout.install("test")
    assert [call for call in checkout.calls if call.startswith("npm ")] == [
        f"npm ci --prefix {node} --ignore-scripts --no-audit --no-fund --loglevel http"
    ]
    assert (node / "package-lock.json").read_text() == (ROOT / "tests/node/package-lock.json").read_text()
    checkout.install("test")
    assert checkout.calls == checkout.runs
    (checkout.root / "tests/node/package.json").write_text("{}")
    checkout.install("test")
    assert [call for call in checkout.calls if call.startswith("npm ")]


def test_node_is_asked_for_where_the_tests_need_it_and_an_old_one_is_refused(checkout: Checkout) -> None:
    checkout.put("node", "#!/bin/bash\necho 18\n")
    done = checkout.install("test")
    assert done.returncode == 1
    assert "Node 20 or later" in done.stderr
    (checkout.bin / "node").unlink()
    assert checkout.install("try").returncode == 0
    assert "sudo apt-get install -y nodejs" in checkout.install("test").stderr


def test_try_after_test_installs_nothing(checkout: Checkout) -> None:
    checkout.install("test")
    checkout.install("try")
    assert checkout.calls == checkout.runs


def test_changed_pins_are_installed(checkout: Checkout) -> None:
    checkout.install("try")
    with (checkout.root / "config/requirements.txt").open("a") as file:
        file.write("# changed\n")
    checkout.install("try")
    assert [call for call in checkout.calls if "--require-hashes" in call]


def test_a_killed_pip_is_not_trusted(checkout: Checkout) -> None:
    assert checkout.install("try", KILL_PIP="1").returncode != 0
    assert checkout.install("try").returncode == 0
    assert checkout.calls[0] == "venv"


def test_a_failure_shows_the_end_of_the_log_but_no_address(checkout: Checkout) -> None:
    done = checkout.install("try", FAIL_PIP="1")
    assert done.returncode == 1
    assert "digest differs" in done.stderr
    logs = "".join(path.read_text() for path in (checkout.root / ".customhouse/logs").iterdir())
    assert "digest differs" in logs
    assert "secret" not in done.stdout + done.stderr + logs
    assert "index.example" not in done.stdout + done.stderr + logs


def test_what_is_missing_is_named_in_one_command(checkout: Checkout) -> None:
    for tool in ("npm", "cc"):
        (checkout.bin / tool).unlink()
    done = checkout.install("try", CUSTOMHOUSE_WHEELS="")
    assert done.returncode == 1
    assert "sudo apt-get install -y npm build-essential" in done.stderr
    assert not (checkout.root / ".customhouse").exists()


def test_root_gets_what_is_missing(checkout: Checkout) -> None:
    (checkout.bin / "npm").unlink()
    checkout.put("id", "#!/bin/bash\necho 0\n")
    checkout.put("apt-get", f'#!/bin/bash\necho "apt-get $*" >>{checkout.notes}\n')
    done = checkout.install("try")
    assert "you are root, so they are installed now" in done.stdout
    assert checkout.calls[:2] == ["apt-get update", "apt-get install -y --no-install-recommends npm"]


def test_no_compiler_is_needed_when_there_is_a_wheel(checkout: Checkout) -> None:
    (checkout.bin / "cc").unlink()
    assert checkout.install("try").returncode == 0


def test_an_unsuitable_python_is_refused(checkout: Checkout) -> None:
    checkout.put("python3", '#!/bin/bash\n[[ $1 == --version ]] && echo "Python 3.9.2"\nexit 1\n')
    done = checkout.install("try")
    assert done.returncode == 1
    assert "python3" in done.stderr


def test_a_dry_run_says_everything_and_does_nothing(checkout: Checkout) -> None:
    done = checkout.install("--dry-run", "try", CUSTOMHOUSE_WHEELS="")
    assert done.returncode == 0, done.stderr
    for step in ("venv", "--require-hashes", "pip wheel", "models fetch", "demo"):
        assert step in done.stdout
    assert checkout.calls == []
    assert not (checkout.root / ".customhouse").exists()


def test_cuda_needs_more_than_the_compiler(checkout: Checkout, tmp_path: Path) -> None:
    checkout.put("nvcc", f'#!/bin/bash\necho "#$ TOP={tmp_path}/toolkit/bin/.." >&2\n')
    without = checkout.install("--dry-run", "--cuda", "try", CUSTOMHOUSE_WHEELS="")
    assert "WITHOUT CUDA" in without.stdout
    assert "build-dir=" + str(checkout.root / ".customhouse/build/cpu-") in without.stdout
    for folder in ("bin", "include"):
        (tmp_path / "toolkit" / folder).mkdir(parents=True)
    (tmp_path / "toolkit/include/cublas_v2.h").touch()
    done = checkout.install("--dry-run", "--cuda", "try", CUSTOMHOUSE_WHEELS="")
    assert f"with CUDA ({checkout.bin}/nvcc)" in done.stdout
    assert "requirements-cuda.txt" in done.stdout
    assert "build-dir=" + str(checkout.root / ".customhouse/build/cuda-") in done.stdout


@pytest.mark.parametrize("arguments", [["try", "--prot", "1"], ["try", "--port", "x"], ["instal"], ["--user", "try"]])
def test_a_wrong_argument_is_answered_with_the_usage(checkout: Checkout, arguments: list[str]) -> None:
    done = checkout.install(*arguments)
    assert done.returncode == 2
    assert "usage: sudo ./install.sh" in done.stderr


def test_help_says_what_there_is(checkout: Checkout) -> None:
    done = checkout.install("--help")
    assert done.returncode == 0
    assert all(word in done.stdout for word in ("try", "test", "--cuda", "sudo ./install.sh", "--uninstall"))


def test_ci_runs_the_same_command() -> None:
    assert "./install.sh test" in (ROOT / ".ci/run").read_text()
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert os.access(ROOT / "install.sh", os.X_OK)


# --- the pinned lists ------------------------------------------------------------------------------------------------


def test_every_node_package_has_a_version_and_a_digest_and_no_address() -> None:
    lock = json.loads((ROOT / "tests/node/package-lock.json").read_text())["packages"]
    pinned = json.loads((ROOT / "tests/node/package.json").read_text())["dependencies"]
    assert {name: lock[f"node_modules/{name}"]["version"] for name in pinned} == pinned
    for name, entry in lock.items():
        if name:
            assert entry["integrity"].startswith("sha512-"), name
            assert "resolved" not in entry, name


LISTS = sorted((ROOT / "config").glob("requirements*.txt"))


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.name)
def test_every_package_of_a_list_has_a_version_and_digests(path: Path) -> None:
    entries = path.read_text().replace("\\\n", " ").splitlines()
    entries = [entry for entry in entries if not entry.startswith("#")]
    assert entries
    for entry in entries:
        assert re.match(r"[a-z0-9.-]+==[^ ]+ .*--hash=sha256:[0-9a-f]{64}", entry), entry
    assert "://" not in path.read_text()


def test_the_lists_hold_what_pyproject_pins() -> None:
    """`python -m tests.lock` was run after the last change of a pin."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras, groups = pyproject["project"]["optional-dependencies"], pyproject["dependency-groups"]
    pins = [
        *pyproject["project"]["dependencies"],
        *extras["test"],
        *extras["train"],
        *groups["setup"],
        *groups["build"],
        *groups["oracle"],
        *groups["litellm"],
    ]
    text = "\n".join(path.read_text() for path in LISTS)
    listed = set(re.findall(r"^([a-z0-9.-]+==[^ ]+)", text, re.MULTILINE))
    for pin in pins:
        assert re.split(r"[;\[ ]", pin)[0].lower() in listed, f"{pin}: run python -m tests.lock"
    assert not {name for name in lock.names(lock.BASE) if name == lock.SOURCE_ONLY}
