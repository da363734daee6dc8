"""Jobs: all of them as a list that is as quick at a million as at ten, one in full, a failed one again."""

import shlex
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec

from appliance import clock
from appliance.accounts import organisations
from appliance.database import Connection
from appliance.errors import Conflict, InvalidRequest, NotFound
from appliance.jobs import browse, explain, rows
from appliance.jobs import retry as again
from appliance.jobs.browse import Catalogue, Listed, Wanted
from appliance.jobs.explain import Flip, Question, Why
from appliance.jobs.job import JobKind, Score, Status
from appliance.jobs.rows import Child, JobRow
from appliance.media.decoders import Decoders, read_frame
from appliance.tasks import Lanes
from appliance.webhooks import deliveries
from appliance.webhooks.deliveries import Attempt, Delivery
from tui.backend.desk import Desk

__all__ = [
    "Attempt",
    "Book",
    "Child",
    "Delivery",
    "Listed",
    "Score",
    "Shown",
    "asked",
    "detail",
    "hindrance",
    "picture",
    "retry",
]

KINDS = tuple(kind.wire for kind in JobKind)
STATES = tuple(status.value for status in Status)
VERDICTS = ("prohibited", "passed")
NAMES = ("org", "kind", "status", "verdict", "category", "from", "to")
"""What may stand before a colon in the filter."""


class Shown(msgspec.Struct, frozen=True):
    """One job, with all that is known of it but what was submitted."""

    job: JobRow
    organisation: str
    children: list[Child]
    why: Why
    flip: Flip | None
    questions: list[Question]
    sent: list[tuple[Delivery, list[Attempt]]]
    hindrance: str | None
    """Why it cannot be done again; None when it can."""


class Book:
    """The list under one filter. Any thread may ask it anything."""

    def __init__(self, desk: Desk, wanted: Wanted) -> None:
        self._desk = desk
        self._lock = threading.Lock()
        self.wanted = wanted
        self.names = {one.id: one.name for one in desk.read(organisations.every)}
        self._catalogue: Catalogue = desk.read(lambda conn: Catalogue(conn, wanted))
        self.grow()

    def __len__(self) -> int:
        return len(self._catalogue)

    @property
    def is_whole(self) -> bool:
        return self._catalogue.is_whole

    @property
    def looked_at(self) -> float:
        return self._catalogue.looked_at

    def grow(self) -> bool:
        """One stretch more; False when there is none left."""
        with self._lock:
            return self._desk.read(self._catalogue.grow)

    def renew(self) -> bool:
        """Take in what came and what ended since; whether anything is different."""
        with self._lock:
            return self._desk.read(self._catalogue.renew)

    def newest(self) -> int:
        """The number of the first of the list; 0 when it is empty."""
        return next(iter(self._catalogue.seqs(0, 1)), 0)

    def newer_than(self, seq: int) -> int:
        return self._catalogue.newer_than(seq)

    def place(self, job_id: str, *, oldest_first: bool = False) -> int | None:
        seq = self._desk.read(lambda conn: browse.seq_of(conn, job_id))
        return None if seq is None else self._catalogue.place(seq, oldest_first=oldest_first)

    def read(self, first: int, count: int, *, oldest_first: bool = False) -> list[Listed | None]:
        """None for one that was removed meanwhile."""
        seqs = self._catalogue.seqs(first, count, oldest_first=oldest_first)
        return self._desk.read(lambda conn: browse.read(conn, seqs))

    def name_of(self, org_id: str) -> str:
        if org_id not in self.names:  # made after this list was
            self.names = {one.id: one.name for one in self._desk.read(organisations.every)}
        return self.names.get(org_id, "—")


def asked(desk: Desk, text: str) -> Wanted:
    """What a filter asks for: `org:acme kind:video status:failed verdict:prohibited category:nsfw from:2h to:1h`, and
    any other words are searched. Raises Refused with what is wrong."""
    given: dict[str, str] = {}
    loose: list[str] = []
    for word in parts(text):
        name, colon, value = word.partition(":")
        if colon and name.lower() in NAMES:
            given[name.lower()] = value
        else:
            loose.append(word)
    for name, allowed in (("kind", KINDS), ("status", STATES), ("verdict", VERDICTS)):
        if given.get(name) and given[name] not in allowed:
            raise InvalidRequest(f"{name}: is one of {', '.join(allowed)}")
    kind = next((one for one in JobKind if one.wire == given.get("kind")), None)
    verdict = given.get("verdict")
    return Wanted(
        org_id=desk.read(lambda conn: organisations.referred(conn, given["org"])).id if given.get("org") else None,
        kind=kind,
        status=Status(given["status"]) if given.get("status") else None,
        is_prohibited=verdict == "prohibited" if verdict else None,
        category=given.get("category") or None,
        since=_moment(desk, given.get("from")),
        until=_moment(desk, given.get("to")),
        search=" ".join(loose),
    )


def parts(text: str) -> list[str]:
    """The words of a filter; quotes hold several together: org:"Alice and Bob"."""
    try:
        return shlex.split(text)
    except ValueError:  # a quote that is still open: somebody is typing
        return text.split()


def detail(desk: Desk, job_id: str) -> Shown | None:
    """None when it was removed."""

    def of(conn: Connection) -> Shown | None:
        job = rows.job(conn, job_id)
        if job is None:
            return None
        children = rows.children_of(conn, job_id)
        words = rows.words(conn, job)
        return Shown(
            job,
            organisations.referred(conn, job.org_id).name,
            children,
            explain.why(job, children, words),
            explain.flip(job, children),
            explain.questions(job, words),
            [(one, deliveries.attempts(conn, one.id)) for one in _sent(conn, job)],
            again.hindrance(conn, job),
        )

    return desk.read(of)


def hindrance(desk: Desk, job_id: str) -> str | None:
    """Why this job cannot be done again; None when it can."""

    def of(conn: Connection) -> str | None:
        job = rows.job(conn, job_id)
        return "It was removed" if job is None else again.hindrance(conn, job)

    return desk.read(of)


def retry(desk: Desk, job_id: str, reason: str) -> str:
    """The id of the new job."""
    made = desk.change(lambda conn: again.retry(conn, desk.house, job_id, actor=desk.actor, reason=reason))
    lanes = Lanes(desk.settings)
    try:
        lanes.follow(made.follow_up, made.job.kind)
    finally:
        lanes.close()
    return made.job.id


def picture(desk: Desk, job_id: str) -> list[list[tuple[int, int, int]]]:
    """What was submitted, reduced and blurred. Raises Refused when it is gone, as it is once its job has closed, and
    when it may not be shown: `underage` flagged it, or has not answered."""
    from appliance.media import blurred  # brings numpy: not at the start of the screen

    job = desk.read(lambda conn: rows.job(conn, job_id))
    if job is None:
        raise NotFound("The job was removed")
    if job.kind is JobKind.PROMPT:
        raise InvalidRequest("It is a text; there is no picture")
    found = _medium(desk, job)
    if found is None:
        raise NotFound("Gone, as promised: pictures and videos are deleted when their job closes")
    children = desk.read(lambda conn: rows.children_of(conn, job_id))
    scores = [score for child in children if child.finding for score in child.finding.scores]
    of_minors = [score for score in scores if score.category == "underage"]
    if not of_minors or any(score.is_over for score in of_minors):
        raise Conflict("It is not shown: `underage` flagged it, or has not answered about it yet")
    path, is_frame = found
    if is_frame:
        return blurred.blurred(read_frame(path))
    decoders = Decoders(
        msgspec.structs.replace(desk.settings, media=msgspec.structs.replace(desk.settings.media, decoders=1))
    )
    try:
        return blurred.blurred(decoders.image(path)[0].pixels)
    finally:
        decoders.close()


def _medium(desk: Desk, job: JobRow) -> tuple[Path, bool] | None:
    """A file of it that is still there, and whether it is a frame of a video: only while it is open."""
    if job.completed_at is not None:
        return None
    given = desk.read(lambda conn: rows.input_of(conn, job.id))
    named: list[tuple[str, bool]] = []
    if given is not None and given.path and job.kind is JobKind.IMAGE:
        named.append((given.path, False))
    named += [(child.path, True) for child in desk.read(lambda conn: rows.children_of(conn, job.id)) if child.path]
    files = ((desk.settings.media_dir / name, is_frame) for name, is_frame in named)
    return next((one for one in files if one[0].is_file()), None)


def _sent(conn: Connection, job: JobRow) -> Sequence[Delivery]:
    found: list[Delivery] = []
    for reference in (job.id, job.batch_id):
        if reference is not None:
            try:
                found.append(deliveries.find(conn, reference))
            except NotFound:
                continue
    return found


def _moment(desk: Desk, given: str | None) -> int | None:
    try:
        return clock.moment(given, desk.now()) if given else None
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
