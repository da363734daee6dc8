"""Releases for tests: this tree copied below a scratch PREFIX under another version's name, with migrations of its own.

What runs from there are real processes of that version; only the libraries are shared with the tests, by a path.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from appliance import database
from appliance.schema import migrations

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("appliance", "tui", "models", "config")

MADE_UP = """
@migrations(undo="{number:03}_made_up_undone.sql")
def m{number:03}_made_up(db: sqlite_utils.Database) -> None:
    _run(db, "{number:03}_made_up.sql")
    if (FOLDER / "die").exists():
        import os

        (FOLDER / "die").unlink()
        os.kill(os.getppid(), 9)
        os.kill(os.getpid(), 9)
"""

FORWARD = """CREATE TABLE made_up (job_id TEXT PRIMARY KEY, note TEXT NOT NULL) STRICT;
INSERT INTO made_up SELECT id, 'was there' FROM job;
CREATE TRIGGER made_up_born AFTER INSERT ON job BEGIN INSERT INTO made_up VALUES (NEW.id, 'came later'); END;
ALTER TABLE job ADD COLUMN made_up_at INTEGER;
"""

BACK = """ALTER TABLE job DROP COLUMN made_up_at;
DROP TRIGGER made_up_born;
DROP TABLE made_up;
"""


def next_number() -> int:
    return int(migrations.names[-1][1:4]) + 1


def lay(
    prefix: Path,
    version: str,
    *,
    is_migrating: bool = False,
    edits: dict[str, tuple[str, str]] | None = None,
    added: dict[str, str] | None = None,
) -> Path:
    """versions/V, whole. `edits`: file → what stands there, and what shall; `added`: file → what stands at its end."""
    folder = prefix / "versions" / version
    source = folder / "source"
    for part in PARTS:  # with what Python compiled: it stays valid, and compiling it again costs seconds
        shutil.copytree(ROOT / part, source / part)
    schema = source / "appliance/schema"
    _edit(source / "appliance/__init__.py", '__version__ = "', f'__version__ = "{version}"  # was "')
    if is_migrating:
        number = next_number()
        with (schema / "__init__.py").open("a") as file:
            file.write(f"\n{MADE_UP.format(number=number)}")
        (schema / f"{number:03}_made_up.sql").write_text(FORWARD)
        (schema / f"{number:03}_made_up_undone.sql").write_text(BACK)
    for name, (before, after) in (edits or {}).items():
        _edit(source / name, before, after)
    for name, text in (added or {}).items():
        with (source / name).open("a") as file:
            file.write(text)
    _environment(folder / "venv", source)
    run(prefix, version, "release", "describe", str(folder))
    return folder


def _edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert text.count(before) == 1, (path, before)
    path.write_text(text.replace(before, after))


def _environment(venv: Path, source: Path) -> None:
    """As `python -m venv` makes it, with the tests' own libraries below the source."""
    paths = sysconfig.get_paths()
    python = Path(os.path.realpath(sys.executable))
    site = venv / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    site.mkdir(parents=True)
    (venv / "bin").mkdir()
    (venv / "pyvenv.cfg").write_text(f"home = {python.parent}\ninclude-system-site-packages = false\n")
    (venv / "bin/python").symlink_to(python)
    (site / "shared.pth").write_text("\n".join(dict.fromkeys((str(source), paths["purelib"], paths["platlib"]))) + "\n")
    command = venv / "bin/customhouse"
    command.write_text(f"#!{venv}/bin/python -P\nfrom appliance.__main__ import main\n\nmain()\n")
    command.chmod(0o755)


def environ(home: Path, **more: str) -> dict[str, str]:
    """Of a command: nothing of the tests' own PYTHON… variables, so that what runs is what lies there."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "CUSTOMHOUSE_"))}
    return {**kept, "CUSTOMHOUSE_HOME": str(home), "CUSTOMHOUSE_LOG_LEVEL": "warning", **more}


def command(prefix: Path, version: str) -> str:
    """The program of a version, or of `current`."""
    folder = prefix / "current" if version == "current" else prefix / "versions" / version
    return str(folder / "venv/bin/customhouse")


def run(prefix: Path, version: str, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """One command of a version; `more` is its environment, `check=False` lets it fail."""
    check = more.pop("check", True)
    done = subprocess.run(
        [*more.pop("before", ()), command(prefix, version), *words],
        env=environ(prefix / "home", **more),
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert not check or done.returncode == 0, (words, done.returncode, done.stdout, done.stderr)
    return done


def answer(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    return json.loads(done.stdout)


def tables(path: Path) -> list[tuple[Any, ...]]:
    """What the file holds but rows, words and all."""
    conn = database.look(path)
    try:
        query = "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY type, name"
        return [tuple(row) for row in conn.execute(query)]
    finally:
        conn.close()


def is_sound(path: Path) -> bool:
    conn = database.connect(path)
    try:
        return (
            conn.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
            and conn.execute("PRAGMA foreign_key_check").fetchall() == []
        )
    finally:
        conn.close()
