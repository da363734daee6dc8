"""The steps from one version to another, and back. Each stands in the journal before it is done, and can be done twice.

At every step the version that `current` names can use the database, or bring it to where it can. Forwards the symlink
is switched first and then migrated; backwards the newer version takes its tables back first, and then it is switched.
So whatever is cut off, what starts next starts; the journal only says what is left to do.

While the tables change nobody is served: the API is stopped and its socket stays open, so whoever connects waits. An
API that went on serving would have its writes refused while a long migration holds the file, and every migration would
have to suit two versions at once; all it would save is the migration's own time, a small part of an API's start.
"""

import contextlib
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from appliance import clock, database, durable, installed
from appliance.errors import Misconfigured
from appliance.release import condition, hand, journal, release, shelf
from appliance.release.hand import Hand
from appliance.release.journal import Journal
from appliance.release.release import Release
from appliance.release.shelf import Activated
from appliance.services import API, INFERENCE, WORKER, Services
from appliance.settings import Settings

_MODELS_S = 15.0
"""So long callers wait for models that open slowly; then they are let in, and what needs a model waits for it."""


class Box(msgspec.Struct, frozen=True):
    """What a change of version works on."""

    prefix: Path
    settings: Settings
    services: Services
    actor: str
    hand: Hand
    healthy_s: float = 120.0
    """When it does not answer as before for so long, it goes back."""
    begins: bool = True
    """At the first activation everything is started."""
    keep: int = 3
    """Versions that stay, the current one and the one before included."""
    on_step: Callable[[str], None] = lambda step: None
    """Told of each step, after it stands in the journal and before it is done."""


class Outcome(msgspec.Struct, frozen=True):
    """What a change came to."""

    result: str
    """activated, rolled back, went back, undone (nothing had been switched yet) or unchanged."""
    version: str
    """That is current now."""
    services: tuple[str, ...] = ()
    """Those that run it; none where nothing was to be started."""
    version_before: str = ""
    backup: str = ""
    rehearsal: dict[str, Any] | None = None
    seconds: float = 0.0
    held_s: float = 0.0
    """For which who connected waited: from the stop of the API until it answered again."""
    took: dict[str, float] = {}
    """Step → seconds; of the way back when it went back."""
    why: str = ""
    """Of going back."""
    trouble: str = ""
    """What is not well all the same."""
    pruned: list[str] = []


class Going:
    """One change under way."""

    def __init__(self, box: Box, noted: Journal, to: Release, begun: float | None = None) -> None:
        self.box = box
        self.noted = noted
        self.to = to
        self.rehearsal: dict[str, Any] | None = None
        self.trouble = ""
        self.pruned: list[str] = []
        self._begun = time.monotonic() if begun is None else begun
        self._closed: float | None = None
        self._held_s = 0.0
        self._took: dict[str, float] = {}
        self._alone = contextlib.ExitStack()

    def walk(self, steps: tuple["Step", ...], first: str = "") -> None:
        """The steps, from `first` on."""
        names = [name for name, _ in steps]
        try:
            for name, do in steps[names.index(first) if first else 0 :]:
                self.noted = journal.write(self.box.prefix, msgspec.structs.replace(self.noted, step=name))
                self.box.on_step(name)
                begun = time.monotonic()
                do(self)
                self._took[name] = round(time.monotonic() - begun, 2)
        finally:
            self._alone.close()

    def goes_on_from(self, other: "Going") -> None:
        """What the way there took counts on the way back."""
        self.rehearsal, self._begun, self._closed = other.rehearsal, other._begun, other._closed

    def outcome(self, result: str) -> Outcome:
        return Outcome(
            result=result,
            version=installed.current(self.box.prefix) or "",
            services=self.noted.meant,
            version_before=self.noted.before,
            backup=self.noted.backup,
            rehearsal=self.rehearsal,
            seconds=round(time.monotonic() - self._begun, 2),
            held_s=round(self._held_s, 2),
            took=self._took,
            why=self.noted.why,
            trouble=self.trouble,
            pruned=self.pruned,
        )

    def ask(self, do: str, **given: Any) -> dict[str, Any]:
        return self.box.hand.ask(do, **given)

    def _of_meant(self, *names: str) -> list[str]:
        return [name for name in names if name in self.noted.meant]

    # --- both ways ---

    def units(self) -> None:
        """Those of the version that is current now: its commands, its limits. Of a version that keeps none nothing is
        known, and they stay."""
        before = shelf.units(self.box.prefix, self.noted.before) if self.noted.before else None
        self.box.services.take_units(shelf.units(self.box.prefix, self.to.version), before)

    def stop_worker(self) -> None:
        """It finishes what it has in hand."""
        self.box.services.stop(*self._of_meant(WORKER))

    def start_inner(self) -> None:
        """The model process and the worker, side by side; the API only then, so that who waited is answered in full."""
        if self.noted.meant and not self.noted.before:
            self.box.services.begin()
        self._have(self.box.services.start, INFERENCE, WORKER)
        if self._of_meant(INFERENCE):
            condition.wait_for_models(self.box.settings, min(_MODELS_S, self.box.healthy_s))

    def _have(self, act: Callable[..., None], *names: str) -> None:
        """On the way back, what does not start keeps nothing else from starting."""
        try:
            act(*self._of_meant(*names))
        except Misconfigured as error:
            if self.noted.act != "back":
                raise
            self.trouble = error.message

    def _wait(self) -> str:
        """What is missing in the end; empty when all is well."""
        box, meant, code = self.box, self.noted.meant, self.to.code
        until = time.monotonic() + box.healthy_s
        if API in meant:
            condition.wait(box.settings, box.services, (API,), code, was_up=False, until=until)
        if self._closed is not None and API in meant:
            self._held_s = time.monotonic() - self._closed
        return condition.wait(box.settings, box.services, meant, code, was_up=self.noted.was_up, until=until)

    def _tell(self, action: str, **detail: Any) -> None:
        """The line in the audit log. The change is done: that it could not be told does not undo it."""
        try:
            self.ask(
                "record",
                actor=self.noted.actor,
                action=action,
                subject=self.to.version,
                reason=self.noted.why or None,
                detail={"before": self.noted.before, **detail},
            )
        except Misconfigured as error:
            self.trouble = f"the audit log could not be written: {error.message}"

    # --- forwards ---

    def backup(self) -> None:
        if self.noted.schema_before and (self.noted.before or self.noted.schema_before != self.to.schema):
            made = self.ask("backup", why=f"before release {self.to.version}")
            self.noted = msgspec.structs.replace(self.noted, backup=made["path"])

    def rehearse(self) -> None:
        if self.noted.schema_before and self.noted.schema_before != self.to.schema:
            self.rehearsal = self.ask("rehearse")

    def switch(self) -> None:
        shelf.point(self.box.prefix, self.to.version)

    def stop_api(self) -> None:
        """Requests in hand are answered; what connects from now on waits at the socket."""
        self._closed = time.monotonic()
        self.box.services.stop(*self._of_meant(API))
        self.box.services.stop(*self._of_meant(INFERENCE))  # what was in hand needed it

    def migrate(self) -> None:
        self.ask("migrate")

    def start_api(self) -> None:
        self._have(self.box.services.start, API)

    def health(self) -> None:
        missing = self._wait()
        if missing:
            raise Misconfigured(f"after {self.box.healthy_s:.0f} s {self.to.version} is not well: {missing}")

    def settle(self) -> None:
        box, noted = self.box, self.noted
        if noted.before:
            shelf.point(box.prefix, noted.before, installed.PREVIOUS)
        how = Activated(clock.rfc3339(clock.now_ms()), noted.before, noted.schema_before, noted.backup)
        shelf.remember(box.prefix, self.to.version, how)
        self._tell("release.activated", schema=self.to.schema, backup=noted.backup)
        self.pruned = shelf.prune(box.prefix, box.keep)
        journal.clear(box.prefix)

    # --- backwards ---

    def stop_all(self) -> None:
        """Nobody of ours gets past its start until it is switched: a process that systemd starts because somebody
        connects would bring the tables up again."""
        if not self.noted.restores:
            self._alone.enter_context(_alone(self.box.settings))
        self._closed = self._closed or time.monotonic()
        self.box.services.stop(*self._of_meant(API, WORKER))
        self.box.services.stop(*self._of_meant(INFERENCE))

    def undo_schema(self) -> None:
        if self.noted.restores:
            self._restore()
        elif self.noted.schema_before:
            self.ask("undo", back_to=self.noted.schema_before)

    def _restore(self) -> None:
        """By the version that it goes back to: this one would bring the tables up to date."""
        identity = ["--identity", self.noted.identity] if self.noted.identity else []
        done = told_by(self.box, self.to.version, "backup", "restore", self.noted.backup, "--yes", "--json", *identity)
        if done.returncode:
            raise Misconfigured(f"the backup was not restored: {_last(done)}")

    def switch_back(self) -> None:
        shelf.point(self.box.prefix, self.to.version)
        self._alone.close()

    def restart_api(self) -> None:
        self._have(self.box.services.restart, API)

    def health_back(self) -> None:
        self.trouble = self._wait() or self.trouble

    def settle_back(self) -> None:
        """What it goes back to next is what that version came from."""
        prefix = self.box.prefix
        how = shelf.remembered(prefix, self.to.version)
        if how is not None and shelf.is_whole(prefix, how.version_before):
            shelf.point(prefix, how.version_before, installed.PREVIOUS)
        else:
            (prefix / installed.PREVIOUS).unlink(missing_ok=True)
            durable.settle_folder(prefix)
        self._tell("release.rolled_back", schema=self.to.schema, restored=self.noted.restores)
        journal.clear(prefix)


Step = tuple[str, Callable[[Going], None]]

FORWARD: tuple[Step, ...] = (
    ("backup", Going.backup),
    ("rehearse", Going.rehearse),
    ("stop-worker", Going.stop_worker),
    ("switch", Going.switch),
    ("stop-api", Going.stop_api),
    ("migrate", Going.migrate),
    ("units", Going.units),
    ("start-inner", Going.start_inner),
    ("start-api", Going.start_api),
    ("health", Going.health),
    ("settle", Going.settle),
)

BACK: tuple[Step, ...] = (
    ("stop", Going.stop_all),
    ("undo-schema", Going.undo_schema),
    ("switch-back", Going.switch_back),
    ("units", Going.units),
    ("start-inner", Going.start_inner),
    ("start-api", Going.restart_api),
    ("health", Going.health_back),
    ("settle", Going.settle_back),
)


@contextlib.contextmanager
def _alone(settings: Settings) -> Any:
    """`database.alone`, and the file that it locks stays the owner's."""
    lock = settings.database.with_suffix(".migrate")
    is_new = not lock.exists()
    with database.alone(settings.database):
        if is_new:
            stat = settings.home.stat()
            os.chown(lock, stat.st_uid, stat.st_gid)
        yield


def start_again(box: Box, meant: tuple[str, ...]) -> None:
    """What was stopped and nothing has changed for."""
    box.services.start(*(name for name in meant if not box.services.is_active(name)))


def refuses_config(box: Box, version: str) -> str:
    """What another version says of the settings as they are; empty when it would start with them."""
    done = told_by(box, version, "config", "check")
    return "" if done.returncode == 0 else _last(done)


def told_by(box: Box, version: str, *words: str) -> "subprocess.CompletedProcess[str]":
    """A command of another version, as the owner of the state directory."""
    python = shelf.folder(box.prefix, version) / "venv" / "bin" / "python"
    return subprocess.run(
        [str(python), "-P", "-m", "appliance", *words],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        cwd=box.settings.home,
        env={**os.environ, "CUSTOMHOUSE_HOME": str(box.settings.home)},
        **hand.owner(box.settings.home),
    )


def _last(done: "subprocess.CompletedProcess[str]") -> str:
    """The last thing that it said."""
    return next(reversed((done.stderr or done.stdout).strip().splitlines()), f"it ended with {done.returncode}")


def intact(box: Box, to: Release) -> None:
    """Raises Misconfigured when its tree is not as it was made."""
    folder = shelf.folder(box.prefix, to.version)
    if not shelf.is_whole(box.prefix, to.version):
        raise Misconfigured(f"{folder}: its environment is not whole; run its ./install.sh again")
    if release.digest(folder / "source") != to.digest:
        raise Misconfigured(f"{folder}: its source is not as it was installed; run its ./install.sh again")
