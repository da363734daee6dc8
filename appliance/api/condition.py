"""How the house is, in one answer: what /health says. Looked at no more than once a second."""

import asyncio
import logging
import shutil
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import msgspec

from appliance import __version__, clock, database, heartbeat, vitals
from appliance.accounts import custom
from appliance.errors import Failure
from appliance.house import House
from appliance.inference.client import Models
from appliance.inference.wire import ModelState, Status
from appliance.tasks import LANES, Lanes

log = logging.getLogger(__name__)

KEPT_S = 1.0

_MB = 1_000_000
_WORST_FIRST = (ModelState.FAILED, ModelState.ABSENT, ModelState.UNLOADED, ModelState.LOADING)


class Report(msgspec.Struct, frozen=True):
    status: str
    """ok, or degraded: see the sentences."""
    database: str
    queue: str
    gpu: str
    """connected when the models run on one, else absent."""
    models: dict[str, str]
    """Role → loaded, loading, absent, unloaded, failed or unreachable."""
    version: str
    degraded: list[str] = []
    """What is wrong, each with what to do."""


class Figures(msgspec.Struct, frozen=True):
    """The report, and what it was made from."""

    report: Report
    is_up: bool
    """Work is accepted and done. A model on the wrong device is degraded, but up."""
    models: Status | None
    depths: dict[str, int]


class Condition:
    def __init__(self, house: House, lanes: Lanes, models: Models) -> None:
        self._house = house
        self._lanes = lanes
        self._models = models
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="condition")
        self._lock = asyncio.Lock()
        self._figures: Figures | None = None
        self._taken = 0.0

    async def now(self) -> Figures:
        """As of this second."""
        async with self._lock:
            figures = self._figures
            if figures is None or time.monotonic() - self._taken >= KEPT_S:
                figures = await asyncio.get_running_loop().run_in_executor(self._thread, self._look)
                self._figures, self._taken = figures, time.monotonic()
            return figures

    def close(self) -> None:
        self._thread.shutdown(wait=True)
        self._models.close()

    def _look(self) -> Figures:
        broken: list[str] = []
        has_database = self._has_database(broken)
        depths = self._depths(broken)
        has_workers = self._has_workers(broken)
        has_room = self._has_room(broken)
        status = self._status(broken)
        roles = self._roles(status, broken)
        lame = list(status.degraded) if status else []
        if has_database:
            lame += custom.unanswered(self._house.db.reader(), self._house.settings)
        device = status.device if status else ""
        report = Report(
            status="degraded" if broken or lame else "ok",
            database="connected" if has_database else "disconnected",
            queue="connected" if depths and has_workers else "disconnected",
            gpu="connected" if device.startswith("cuda") else "absent",
            models=roles,
            version=__version__,
            degraded=[*broken, *(sentence for sentence in lame if sentence not in broken)],
        )
        return Figures(report=report, is_up=has_room and not broken, models=status, depths=depths)

    def _has_database(self, broken: list[str]) -> bool:
        try:
            self._house.db.reader().execute("SELECT open_jobs FROM backlog").fetchone()
        except database.Error:
            log.warning("database not readable", exc_info=True)
            broken.append("The database cannot be read; see the log")
            return False
        if why := self._house.db.trouble:
            broken.append(f"The database cannot be written, nothing is accepted: {why}. Look at the disk")
            self._house.db.try_again()  # who is told that we are down sends nothing that would find out
        return True

    def _depths(self, broken: list[str]) -> dict[str, int]:
        try:
            return {lane: self._lanes.depth(lane) for lane in LANES}
        except database.Error:
            log.warning("queue not readable", exc_info=True)
            broken.append(
                "The queue cannot be read; stop everything and delete queue.db: it is filled again from the database"
            )
            return {}

    def _has_workers(self, broken: list[str]) -> bool:
        if vitals.is_worker_up(self._house.settings):
            beat = heartbeat.last(self._house.settings.run_dir)
            silent_ms = 0 if beat is None else clock.now_ms() - beat.at
            if silent_ms <= heartbeat.LATE_MS:
                return True
            broken.append(
                f"The worker hangs, or cannot write: no sign of life for {silent_ms // 1000} s. Jobs are accepted and "
                "wait; look at the disk, or start it again"
            )
            return False
        broken.append("No worker is running: jobs are accepted and wait. Start it: customhouse work")
        return False

    def _has_room(self, broken: list[str]) -> bool:
        settings = self._house.settings
        free_mb = shutil.disk_usage(settings.home).free // _MB
        if free_mb >= settings.server.min_free_disk_mb:
            return True
        broken.append(
            f"{free_mb} MB are free where {settings.home} is; nothing is accepted below server.min_free_disk_mb"
        )
        return False

    def _status(self, broken: list[str]) -> Status | None:
        try:
            return self._models.status()
        except Failure as failure:
            broken.append(failure.message)
            return None

    def _roles(self, status: Status | None, broken: list[str]) -> dict[str, str]:
        """What answers each role; a source that is not there fails its jobs, so a role is loaded when all of it is."""
        if status is None:
            return dict.fromkeys(("nsfw", "vlm", "text"), "unreachable")
        states = {model.name: model.state for model in status.models}
        roles: dict[str, str] = {}
        for role, names in self._needed().items():
            lacking = {name: states.get(name, ModelState.ABSENT) for name in names}
            lacking = {name: state for name, state in lacking.items() if state is not ModelState.READY}
            roles[role] = "loaded" if names and not lacking else _worst(lacking.values())
            broken.extend(_remedy(name, state) for name, state in lacking.items())
            if not names:
                broken.append(f"No model answers the step {role}; see config/categories.toml")
        return roles

    def _needed(self) -> dict[str, list[str]]:
        """Role → the models that have to answer it: every source of its step, and the judge that is configured."""
        settings = self._house.settings.inference
        step: dict[str, list[str]] = {"nsfw": [], "vlm": [], "text": []}
        for category in self._house.categories.values():
            for source in category.sources:
                step[source.step].append(source.model)
        if settings.vision_judge:
            step["vlm"] = [settings.vision_judge]
        if settings.text_judge:
            step["text"].append(settings.text_judge)
        return {role: list(dict.fromkeys(names)) for role, names in step.items()}


def _worst(states: Iterable[ModelState]) -> str:
    found = set(states)
    return next((state.value for state in _WORST_FIRST if state in found), ModelState.ABSENT.value)


def _remedy(name: str, state: ModelState) -> str:
    match state:
        case ModelState.ABSENT | ModelState.UNLOADED:
            return f"{name} is {state.value}; run: customhouse models fetch {name}"
        case ModelState.LOADING:
            return f"{name} is loading"
        case _:
            return f"{name} could not be loaded; run: customhouse models verify {name}"
