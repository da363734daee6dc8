"""The handles that a process holds: made once in its main, handed down, never global."""

import contextlib
import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import msgspec

from appliance import access, categories, database, durable, prompts, thresholds
from appliance.access import Access
from appliance.categories import Category
from appliance.database import Database
from appliance.errors import Misconfigured
from appliance.settings import Settings


class House:
    """Settings, database, categories and the server's secret, opened together. Raises Misconfigured at start.

    Who may not change anything (appliance/access.py) gets a house to look at: nothing is made, nothing is migrated, and
    the database refuses to write. So every command is held to it, in one place.
    """

    def __init__(self, settings: Settings, who: Access | None = None) -> None:
        self.settings = settings
        self.access = who or access.of_caller(settings)
        self._categories = categories.Live(settings.categories_file)
        if self.access.may_change:
            for folder in (settings.home, settings.media_dir, settings.weights_dir, settings.run_dir):
                make_folder(folder)
            self.pepper = read_pepper(settings.pepper_file)
            migrate(settings.database)
            self.db = Database(settings.database)
        else:
            database.check_readable(settings.database)
            self.pepper = b""
            self.db = Database(settings.database, why_not=self.access.why_not or "You may look, not change")
        self._questions: dict[tuple[str, int], str] = {}

    @property
    def categories(self) -> dict[str, Category]:
        """As config/categories.toml says now, with the administrator's questions and thresholds in their place."""
        return self.categories_at(prompts.now(self.db.reader()))

    @property
    def shipped_categories(self) -> dict[str, Category]:
        """As config/categories.toml says now."""
        return self._categories.current()

    def categories_at(self, versions: Mapping[str, int]) -> dict[str, Category]:
        """With the questions of these versions, by category: what a job was submitted under is what it is asked.
        Thresholds are those of now."""
        shipped = thresholds.over(self._categories.current(), thresholds.now(self.db.reader()))
        asked = {
            slug: msgspec.structs.replace(shipped[slug], question=self._question(slug, version), version=version)
            for slug, version in versions.items()
            if version and slug in shipped
        }
        return {**shipped, **asked}

    def _question(self, category: str, version: int) -> str:
        """Read once a process: a version's words never change."""
        if (category, version) not in self._questions:
            found = prompts.get(self.db.reader(), prompts.SLUG_OF[category], version)
            self._questions[category, version] = found.content
        return self._questions[category, version]

    def close(self) -> None:
        self.db.close()


def migrate(path: Path) -> None:
    """The newest tables. Raises Misconfigured, also when the disk does not let us."""
    try:
        database.migrate(path)
    except (OSError, database.OperationalError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise Misconfigured(
            f"{path}: cannot be opened to be written ({why}); look whether its disk is full or read-only (df, mount), "
            "then start again"
        ) from error


def make_folder(path: Path) -> None:
    """A folder that only we and our group enter. Raises Misconfigured with the path and the reason."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o750)
    except OSError as error:
        raise Misconfigured(
            f"{path}: cannot be made ({error.strerror}); set CUSTOMHOUSE_HOME to a folder you own"
        ) from error


def read_pepper(path: Path) -> bytes:
    """The secret under which keys are hashed; made on first use, readable by us only."""
    if path.exists():
        return _long_enough(path)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(32))
        durable.settle(file)
    with contextlib.suppress(FileExistsError):
        os.link(fresh, path)  # whole or not at all, and only the first of several processes
    fresh.unlink()
    durable.settle_folder(path.parent)  # before a key is hashed under it: without their pepper keys open nothing
    return _long_enough(path)


def _long_enough(path: Path) -> bytes:
    try:
        pepper = path.read_bytes()
    except OSError as error:
        raise Misconfigured(
            f"{path}: cannot be read ({error.strerror}); let the group that administers read it: chmod 640"
        ) from error
    if len(pepper) < 32:
        raise Misconfigured(f"{path}: shorter than 32 bytes; restore it from a backup, or delete it and make new keys")
    return pepper


def digest(pepper: bytes, raw: str) -> bytes:
    """HMAC-SHA-256 of a secret under the pepper: what is kept instead of it."""
    return hmac.new(pepper, raw.encode(), hashlib.sha256).digest()
