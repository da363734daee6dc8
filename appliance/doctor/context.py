"""What a check is handed: the settings as far as they can be read, the machine's files, programs, the database.

Only the standard library is imported at the top. What is missing is a Skip, whose sentence the reader is told.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.doctor import nvidia
from appliance.doctor.finding import Skip

if TYPE_CHECKING:
    from appliance.database import Connection
    from appliance.doctor.nvidia import Driver
    from appliance.inference.manifest import Manifest
    from appliance.inference.wire import Status
    from appliance.settings import Settings

SOURCE = Path(__file__).resolve().parent.parent.parent
"""The checkout, or the folder of installed packages."""

_PROGRAM_S = 10.0


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Context:
    settings: Settings | None
    """None when they cannot be read; `trouble` then says why."""
    trouble: str = ""
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    root: Path = Path("/")
    """Where /proc, /sys, /dev, /etc and /run are looked for."""
    is_bare: bool = False
    """Packages are missing that reading the settings needs."""
    is_quick: bool = False
    is_early: bool = False
    """Before the installation: what is not there yet is no fault."""
    is_online: bool = False
    """Asking outside this machine is allowed."""
    now: Callable[[], float] = time.time
    driver: Callable[[], Driver] = nvidia.driver

    # --- the state directory

    def house(self) -> Settings:
        """The settings, with a state directory that is there."""
        settings = self.known()
        if not settings.home.is_dir():
            raise Skip(f"There is no state directory yet ({settings.home})")
        return settings

    def known(self) -> Settings:
        if self.settings is None:
            raise Skip("The settings cannot be read; see settings.parse")
        return self.settings

    @property
    def home(self) -> Path:
        """Where the state is, or is to be: also when the settings cannot be read."""
        if self.settings is not None:
            return self.settings.home
        return Path(self.environ.get("CUSTOMHOUSE_HOME", "/var/lib/customhouse"))

    def nearest(self, path: Path) -> Path:
        """The path, or the first folder above it that is there."""
        while not path.exists() and path != path.parent:
            path = path.parent
        return path

    @contextlib.contextmanager
    def database(self) -> Generator[Connection]:
        """The database, for reading only; never made, never migrated."""
        from urllib.parse import quote

        path = self.house().database
        if not path.exists():
            raise Skip("There is no database yet; customhouse makes it as it first starts")
        try:
            from appliance.database import sqlite3
        except ImportError as error:
            raise Skip(f"A package is missing ({error.name}); see python.imports") from error
        conn = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=5, check_same_thread=False)
        conn.row_factory = sqlite3.Row
        try:
            try:
                conn.execute("PRAGMA schema_version").fetchone()
            except sqlite3.OperationalError as error:
                if "unable to open" in str(error) or "readonly" in str(error):
                    raise Skip(f"{path} cannot be read by this user; run it as root, or as who owns it") from error
                raise
            yield conn
        finally:
            conn.close()

    def manifests(self) -> Mapping[str, Manifest]:
        """Those that can be read; models.manifests says what is wrong with the others."""
        from appliance.errors import Misconfigured
        from appliance.inference import manifest

        found: dict[str, Manifest] = {}
        for path in sorted(self.known().models_dir.glob("*/manifest.toml")):
            with contextlib.suppress(Misconfigured):
                found[path.parent.name] = manifest.read(path.parent)
        return found

    def models(self) -> Status:
        """What the running model process says. Raises Skip when none answers."""
        from appliance.errors import Failure
        from appliance.inference.client import Models

        asked = Models(self.house().inference_socket, 5.0)
        try:
            return asked.status()
        except Failure as error:
            raise Skip("No model process answers; see sockets.inference") from error
        finally:
            asked.close()

    # --- the machine

    def text(self, path: str) -> str:
        """A file of the machine's, e.g. "proc/meminfo"; empty when it is not there."""
        try:
            return (self.root / path).read_text(errors="replace")
        except OSError:
            return ""

    def run(self, *command: str, timeout_s: float = _PROGRAM_S, **environ: str) -> Ran | None:
        """What a program says; None when there is none of this name, or it does not end."""
        program = shutil.which(command[0], path=self.environ.get("PATH", os.defpath))
        if program is None:
            return None
        try:
            done = subprocess.run(
                [program, *command[1:]],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
                env={**self.environ, "LC_ALL": "C.UTF-8", **environ},
                stdin=subprocess.DEVNULL,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return Ran(done.returncode, done.stdout, done.stderr)

    def python(self, *arguments: str, timeout_s: float) -> Ran | None:
        """Our own interpreter in a process of its own, which may crash or hang without us."""
        path = os.pathsep.join(filter(None, [str(SOURCE), self.environ.get("PYTHONPATH", "")]))
        return self.run(sys.executable, *arguments, timeout_s=timeout_s, PYTHONPATH=path)


def make(environ: Mapping[str, str] | None = None, **given: Any) -> Context:
    """A context with the settings as the environment and the file say, or with what is wrong about them."""
    environ = dict(os.environ if environ is None else environ)
    settings, trouble, is_bare = None, "", False
    try:
        from appliance.settings import load
    except ImportError as error:
        trouble, is_bare = f"The package {error.name} is missing; see python.packages", True
    else:
        from appliance.errors import Misconfigured

        try:
            settings = load(environ=environ)
        except Misconfigured as error:
            trouble = error.message
    return Context(settings, trouble, environ, is_bare=is_bare, **given)
