"""The settings file: looked at as it is on disk, edited as a copy, replaced whole or not at all.

What it says holds for a process when that starts; nothing here reaches into one that runs.
"""

import contextlib
import fcntl
import hashlib
import os
import subprocess
import tempfile
import tomllib
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from appliance import audit, categories, durable, settings, settings_told
from appliance.database import Connection, Database
from appliance.errors import Conflict, InvalidRequest, Misconfigured
from appliance.inference import manifest
from appliance.settings import Settings
from appliance.settings_told import Problem

BEGINNING = """\
# Settings of this box. Only what differs from the defaults need stand here: config/customhouse.toml shows every setting
# with its default and reason, `customhouse config show --origin` what holds and where it comes from.

"""
"""What a file that is not there yet is edited from."""

_MODE = 0o640  # as install.sh makes it: the group reads


class Draft(msgspec.Struct, frozen=True):
    """A copy that is being edited. It stays on disk until it is accepted or thrown away."""

    target: Path
    copy: Path
    digest: str
    """Of the target as the copy was taken; empty = there was none."""


class Change(msgspec.Struct, frozen=True):
    """One key of the file. None = it did not stand there, or does not any more; secrets are not shown."""

    key: str
    before: Any
    after: Any
    used_by: tuple[str, ...]


class Report(msgspec.Struct, frozen=True):
    """Whether a process would start."""

    path: str
    is_there: bool
    problems: list[Problem]
    ignored: list[str]
    """Variables that look like settings and are none."""

    @property
    def is_good(self) -> bool:
        return not self.problems


def check(environ: Mapping[str, str] | None = None) -> Report:
    """The file as it is on disk, with the environment; and the categories and manifests that it leads to."""
    path = settings.file(environ)
    is_there = path is not None and path.exists()
    return Report(
        path="" if path is None else str(path),
        is_there=is_there,
        problems=_problems(path, environ),
        ignored=settings.ignored(environ),
    )


def check_models(held: Settings) -> tuple[int, int]:
    """How many categories and manifests there are. Raises Misconfigured where one names a model that there is not."""
    known = manifest.read_all(held.models_dir)
    answered = categories.load(held.categories_file)
    for slug, category in answered.items():
        for source in category.sources:
            if source.model not in known:
                raise Misconfigured(
                    f"{held.categories_file}: {slug} is to be answered by {source.model!r}, "
                    f"but {held.models_dir} has no such model"
                )
    for name in [held.inference.text_judge, held.inference.vision_judge, *held.inference.models]:
        if name and name not in known:
            raise Misconfigured(f"inference names the model {name!r}, but {held.models_dir} has no such model")
    return len(answered), len(known)


def begin(environ: Mapping[str, str] | None = None) -> Draft:
    """A copy to edit, readable by us only. Raises InvalidRequest where no file is read at all."""
    named = settings.file(environ)
    if named is None:
        raise InvalidRequest(
            "No settings file is read here: name the state directory by CUSTOMHOUSE_HOME, or a file by "
            "CUSTOMHOUSE_CONFIG, where the processes are started"
        )
    target = named.resolve()  # of a link, what it leads to: replacing the link itself would part the two
    try:
        before = target.read_bytes() if target.exists() else None
        descriptor, copy = tempfile.mkstemp(prefix="customhouse-", suffix=".toml")
        with os.fdopen(descriptor, "wb") as file:
            file.write(BEGINNING.encode() if before is None else before)
    except OSError as error:
        raise Misconfigured(f"{target}: cannot be copied for editing ({error.strerror})") from error
    return Draft(target, Path(copy), _digest(before))


def ask(draft: Draft, environ: Mapping[str, str] | None = None) -> None:
    """Have a person edit the copy, on this terminal, until the editor ends. Raises InvalidRequest when it does not
    start or fails; the copy stays."""
    command = settings_told.editor(environ)
    try:
        ended = subprocess.run([*command, str(draft.copy)], check=False).returncode
    except OSError as error:
        raise InvalidRequest(
            f"The editor {command[0]!r} cannot be started ({error.strerror}); set EDITOR. "
            f"Your copy is kept: {draft.copy}"
        ) from error
    if ended != 0:
        raise InvalidRequest(f"The editor {command[0]!r} ended with {ended}. Your copy is kept: {draft.copy}")


def problems(draft: Draft, environ: Mapping[str, str] | None = None) -> list[Problem]:
    """What is wrong with the copy as it is now."""
    try:
        return settings_told.problems(draft.copy.read_text(), draft.target, environ)
    except (OSError, UnicodeDecodeError) as error:
        return [Problem("", f"the copy cannot be read: {error}")]


def changes(draft: Draft) -> list[Change]:
    """What the copy changes of the file's keys, one by one, in the order of their names."""
    before = _keys(draft.target.read_text()) if draft.target.exists() else {}
    after = _keys(draft.copy.read_text())
    return [
        Change(key, settings_told.shown(before.get(key)), settings_told.shown(after.get(key)), _used_by(key))
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    ]


def accept(db: Database, draft: Draft, *, actor: str, environ: Mapping[str, str] | None = None) -> list[Change]:
    """Put the copy in the file's place, in one step, with the file's mode and owner, and say so in the audit log.
    Raises InvalidRequest when the copy is wrong, Conflict when the file was changed meanwhile; the copy stays then."""
    if found := problems(draft, environ):
        raise InvalidRequest(f"{found[0].key or draft.target}: {found[0].reason}")
    with _alone(draft.target):
        before = draft.target.read_bytes() if draft.target.exists() else None
        if _digest(before) != draft.digest:
            raise Conflict(
                f"{draft.target} was changed by somebody else while you edited; nothing was replaced. "
                f"Your copy is kept: {draft.copy}"
            )
        text = draft.copy.read_bytes()
        if text == before:
            discard(draft)
            return []
        changed = changes(draft)
        told = {one.key: {"before": one.before, "after": one.after} for one in changed}

        def change(conn: Connection) -> None:
            audit.record(conn, actor, "settings.changed", str(draft.target), changed=told)
            _replace(draft.target, text)  # last: what raises here takes the line back

        db.write(change)
    discard(draft)
    return changed


def discard(draft: Draft) -> None:
    with contextlib.suppress(FileNotFoundError):
        draft.copy.unlink()


def _problems(path: Path | None, environ: Mapping[str, str] | None) -> list[Problem]:
    try:
        text = path.read_text() if path is not None and path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        return [Problem("", f"cannot be read ({error.strerror if isinstance(error, OSError) else 'not text'})")]
    found = settings_told.problems(text, path or Path(), environ)
    if not found:
        try:
            check_models(settings.load(environ=environ))
        except Misconfigured as error:
            return [Problem("", error.message)]
    return found


def _keys(text: str) -> dict[str, Any]:
    """section.key → value; empty for a text that is no TOML: what a broken file said cannot be told."""
    try:
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return {}
    flat: dict[str, Any] = {}
    for key, value in raw.items():
        if isinstance(value, dict):
            section = cast("dict[str, Any]", value)
            flat.update({f"{key}.{inner}": one for inner, one in section.items()})
        else:
            flat[key] = value
    return flat


def _used_by(key: str) -> tuple[str, ...]:
    section = key.partition(".")[0] if "." in key else ""
    return settings_told.USED_BY.get(section, settings_told.USED_BY[""])


def _replace(target: Path, text: bytes) -> None:
    """Whole, or as it was. Raises Misconfigured where we may not write."""
    try:
        kept = target.stat() if target.exists() else None
        descriptor, fresh = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise Misconfigured(f"{target}: cannot be written ({error.strerror})") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            os.fchmod(descriptor, _MODE if kept is None else kept.st_mode & 0o7777)
            if kept is not None and (kept.st_uid, kept.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(descriptor, kept.st_uid if os.geteuid() == 0 else -1, kept.st_gid)
            durable.settle(file)
        os.replace(fresh, target)
    except OSError as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)
        raise Misconfigured(f"{target}: cannot be written ({error.strerror}); it is as it was") from error
    durable.settle_folder(target.parent)


@contextlib.contextmanager
def _alone(target: Path) -> Generator[None]:
    """One editor's last step at a time."""
    try:
        folder = os.open(target.parent, os.O_RDONLY)
    except OSError as error:
        raise Misconfigured(f"{target.parent}: cannot be opened ({error.strerror})") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _digest(text: bytes | None) -> str:
    return "" if text is None else hashlib.sha256(text).hexdigest()
