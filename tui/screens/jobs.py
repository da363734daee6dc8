"""Jobs: all of them, live, narrowed down by anything; why one came out as it did; a failed one again.

Nothing that was submitted is shown: not its text, and its picture only blurred, after two deliberate steps, while it is
there at all.
"""

# pyright: reportUnknownMemberType=false
# Textual types `app` as an App of nobody knows what.

import shlex
from collections.abc import Sequence
from functools import partial
from typing import ClassVar, cast

from textual import work
from textual.binding import Binding, BindingType
from textual.widgets import Input

from tui import words
from tui.backend import jobs
from tui.backend.desk import Refused
from tui.backend.jobs import Book, Child, Shown
from tui.screens.listed import Listed, copying
from tui.widgets.dialogs import REASON, Asked, Confirm, Form, Told
from tui.widgets.pair import Section
from tui.widgets.rows import Column, Line, Rows

_ANY = "any"
_NAMES = {"TEXT_MODERATION": "text", "FRAME_EXTRACTION": "frames", "FRAME_MODERATION": "frame"}
_MOST_CHILDREN = 400
"""Checks that are told of one job; a long video has a thousand frames and more."""


class Source:
    """A Book as lines."""

    orders: Sequence[int] = (0,)

    def __init__(self, book: Book, now: int, *, oldest_first: bool = False) -> None:
        self._book = book
        self._now = now
        self._oldest_first = oldest_first

    def count(self) -> int:
        return len(self._book)

    def window(self, first: int, count: int) -> Sequence[Line]:
        found = self._book.read(first, count, oldest_first=self._oldest_first)
        return [
            Line(f"gone-{first + n}", ("", "", "removed"), "muted") if one is None else self._line(one)
            for n, one in enumerate(found)
        ]

    def place(self, key: str, near: int) -> int | None:
        return self._book.place(key, oldest_first=self._oldest_first)

    def ordered(self, column: int | None, descending: bool) -> "Source":
        return Source(self._book, self._now, oldest_first=column is not None and not descending)

    def _line(self, job: jobs.Listed) -> Line:
        state, tone = said(job.status, job.is_prohibited, job.done, job.total)
        return Line(
            job.id,
            (
                when(job.created_at, self._now),
                job.kind.wire,
                state,
                self._book.name_of(job.org_id),
                took(job.took_ms),
                job.error_code or ", ".join(job.flagged) or (job.reason or ""),
                job.id,
            ),
            tone,
        )


class Jobs(Listed):
    NAME = "jobs"
    EVERY_S = 2.0
    HINT = "/ org:NAME kind:video status:failed verdict:prohibited category:nsfw from:2h, an id, words"
    COLUMNS = (
        Column("When (UTC)", 11),
        Column("Kind", 6),
        Column("State", 14),
        Column("Organisation", 12, grows=True),
        Column("Took", 7, align="right"),
        Column("Why", 16, grows=True),
        Column("Id", 36, least=150),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "narrow", "Filter", id="jobs.narrow", tooltip="Narrow the list down in a form"),
        Binding("r", "retry", "Retry", id="jobs.retry", tooltip="Submit a failed job's content again, as a new job"),
        Binding("v", "picture", "Picture", show=False, id="jobs.picture", tooltip="Its picture, blurred; asks first"),
        Binding("o", "same_org", "Its organisation", show=False, id="jobs.org", tooltip="Only of this organisation"),
        copying("jobs"),
    ]

    _book: Book | None = None
    _asked: str | None = None
    """The filter that the book was made for."""
    _is_loading = False
    _top = 0
    """The newest job when the cursor was last on the first line."""

    def on_mount(self) -> None:
        super().on_mount()
        self.table.tails = True

    # --- the list -----------------------------------------------------------------------------------------------------

    async def load(self) -> None:
        """All anew: what stands there stays until the new list is as long."""
        self._is_loading = True
        try:
            await self._read()
        finally:
            self._is_loading = False

    async def _read(self) -> None:
        text = self.words_as_typed
        try:
            wanted = await self.ask(lambda: jobs.asked(self.desk, text))
        except Refused as error:
            self.say_count(error.message)
            return
        book = await self.ask(lambda: Book(self.desk, wanted))
        is_other = text != self._asked
        if is_other:
            self._asked = text
            self.table.move_to(0)
            await self._take(book)
        while not book.is_whole:
            for _ in range(4):
                await self.ask(book.grow)
            if is_other:
                self.table.grow(len(book))
            self._say(book)
        if not is_other:
            await self._take(book)
        self.table.empty = (
            "No job is like that: escape clears the filter." if text.strip() else "There are no jobs yet."
        )
        self.table.refresh()
        if self.pair.is_open:
            self.tell()

    async def _take(self, book: Book) -> None:
        self._book = book
        if self.table.cursor == 0:
            self._top = book.newest()
        await self.table.follow(Source(book, self.desk.now()))
        self._say(book)

    def on_rows_broken(self, message: Rows.Broken) -> None:
        self.table.empty = self.broken(message.error)
        self.table.refresh()
        self.say_count("not read anew")
        super().on_rows_broken(message)

    def _load_if_seen(self) -> None:
        """The live tail: only what is new and what was open is looked at."""
        if self.is_current and not self._is_loading and self._book is not None:
            self.run_worker(partial(self._renew, self._book), group="tail", exclusive=True)

    async def _renew(self, book: Book) -> None:
        try:
            if await self.ask(book.renew) and book is self._book:
                await self._take(book)
                if self.pair.is_open:
                    self.tell()
        except Exception as error:  # as in Place
            self.trouble(error)

    def _say(self, book: Book) -> None:
        count = f"{len(book):,}"
        if not book.is_whole:
            self.say_count(f"{count}… {book.looked_at:.0%}")
            return
        if len(book) and not self.table.row_count:
            self.say_count("not read anew")
            return
        fresh = book.newer_than(self._top) if self.table.cursor > 0 and self.table.sorted_by is None else 0
        self.say_count(f"▲ {fresh:,} new: home   {count}" if fresh else count)

    def on_rows_moved(self, event: Rows.Moved) -> None:
        super().on_rows_moved(event)
        if self._book is not None and self.table.cursor == 0:
            self._top = self._book.newest()
            self._say(self._book)

    @property
    def words_as_typed(self) -> str:
        return self.query_one("#filter", Input).value.strip()

    def _narrow_to(self, text: str) -> None:
        self.query_one("#filter", Input).value = text

    def sift(self) -> None:
        self.action_reload()

    # --- one job ------------------------------------------------------------------------------------------------------

    async def detail_of(self, key: str) -> Sequence[Section]:
        found = await self.ask(lambda: jobs.detail(self.desk, key))
        if found is None:
            return [Section("", [], empty="It was removed: its time to be kept is over.")]
        return sections(found)

    @work
    async def action_narrow(self) -> None:
        """The filter, as a form."""
        now: dict[str, str] = {}
        loose: list[str] = []
        for word in jobs.parts(self.words_as_typed):
            name, colon, value = word.partition(":")
            if colon and name in jobs.NAMES:
                now[name] = value
            else:
                loose.append(word)
        given = await self.app.push_screen_wait(
            Form(
                "Which jobs?",
                [
                    Asked("org", "Organisation", now.get("org", "")),
                    Asked("kind", "Kind", now.get("kind", _ANY), choices=(_ANY, *jobs.KINDS)),
                    Asked("status", "State", now.get("status", _ANY), choices=(_ANY, *jobs.STATES)),
                    Asked("verdict", "Verdict", now.get("verdict", _ANY), choices=(_ANY, *jobs.VERDICTS)),
                    Asked("category", "Category found", now.get("category", "")),
                    Asked("from", "From", now.get("from", ""), placeholder="2026-05-19, today, 2h, 7d"),
                    Asked("to", "To", now.get("to", "")),
                    Asked("search", "Id, request, batch, error code, or words of a reason", " ".join(loose)),
                ],
                yes="Show them",
            ).add_class("long")
        )
        if given is None:
            return
        search = given.pop("search")
        named = [f"{name}:{shlex.quote(value)}" for name, value in given.items() if value not in ("", _ANY)]
        self._narrow_to(" ".join([*named, search]).strip())
        self.table.focus()

    def action_same_org(self) -> None:
        if (line := self.table.current) and len(line.cells) > 3:
            self._narrow_to(f"org:{shlex.quote(str(line.cells[3]))}")

    @work
    async def action_retry(self) -> None:
        line = self.table.current
        if line is None or not self.may():
            return
        try:
            issue = await self.ask(lambda: jobs.hindrance(self.desk, line.key))
        except Exception as error:  # as in Place
            self.trouble(error)
            return
        if issue is not None:
            self.notify(issue, title="Not done again", severity="warning", markup=False)
            return
        await self.fill(
            "Do this job again?",
            [REASON],
            lambda given: jobs.retry(self.desk, line.key, given["reason"]),
            yes="Do it again",
            text="What was submitted is submitted again as a new job, with the checks of now. The failed one stays as "
            "it is: its charge was given back and its webhook sent. The new one is charged and told as any other.",
            done=lambda job_id: f"It is job {job_id} now",
            destructive=True,
        )

    @work
    async def action_picture(self) -> None:
        """The second of two steps: the first is the key."""
        line = self.table.current
        if line is None:
            return
        question = Confirm(
            "Show the picture, blurred?",
            "Somebody submitted it to be screened; it may trouble you. It is reduced to at most 24 squares a side and "
            "blurred, so that only where it is light and where dark can be told. What `underage` flags is never shown. "
            "Once a job has closed, its picture is deleted.",
            yes="Show it blurred",
            word="show",
        )
        if not await self.app.push_screen_wait(question):
            return
        try:
            rows = await self.ask(lambda: jobs.picture(self.desk, line.key))
        except Exception as error:  # as in Place
            self.trouble(error)
            return
        from tui.screens.playground import half_blocks  # it brings the models' libraries: 300 ms

        await self.app.push_screen_wait(Told("Blurred", half_blocks(rows)))


# --- in words ---------------------------------------------------------------------------------------------------------


def when(at_ms: int, now_ms: int) -> str:
    """`12:00:01` of today, else `05-18 12:00`; of another year, its day."""
    full, today = words.moment(at_ms), words.moment(now_ms)
    if full[:10] == today[:10]:
        return full[11:]
    return full[5:16] if full[:4] == today[:4] else full[:10]


def took(ms: int | None) -> str:
    if ms is None:
        return ""
    return f"{ms} ms" if ms < 1000 else f"{ms / 1000:.1f} s" if ms < 100_000 else f"{ms // 60_000} min"


def said(status: str, is_prohibited: bool | None, done: int, total: int) -> tuple[str, str]:
    """The state in a word or two, and its tone."""
    match str(status):
        case "completed" if is_prohibited is None:
            return "? no verdict", "warn"
        case "completed":
            return ("✗ prohibited", "warn") if is_prohibited else ("✓ passed", "")
        case "failed":
            return "! failed", "bad"
        case "processing" if total:
            return f"… {done}/{total}", "muted"
        case word:
            return f"… {word}", "muted"


def sections(shown: Shown) -> list[Section]:
    job = shown.job
    state, _ = said(job.status, job.is_prohibited, job.done, job.total)
    facts = [
        ("State", state),
        ("Decided by", str(shown.why) if job.completed_at is not None else ""),
        ("Would flip", "" if shown.flip is None else str(shown.flip)),
        ("Reason", job.reason or ""),
        ("Error", f"{job.error_code}: {job.error}" if job.error_code else ""),
        ("Flagged", ", ".join(_flagged(job.categories))),
        ("Kind", job.kind.wire),
        ("Organisation", shown.organisation),
        ("Id", job.id),
        ("Submitted", words.moment(job.created_at)),
        ("Begun", words.moment(job.started_at)),
        ("Ended", words.moment(job.completed_at)),
        ("Took", took(None if job.completed_at is None else job.completed_at - job.created_at)),
        ("Models", f"{job.gpu_ms} ms" + (f", {job.tokens} tokens" if job.tokens else "") if job.completed_at else ""),
        ("Request", job.request_id or ""),
        ("Came by", job.origin),
        ("Batch", job.batch_id or ""),
        ("Again", "r does it again" if shown.hindrance is None else ""),
    ]
    found = [Section("", [fact for fact in facts if fact[1] and fact[1] != "—"])]
    found.append(Section("Asked in words", [(one.name, one.question) for one in shown.questions]))
    found.append(
        Section(
            f"Checks ({len(shown.children)})",
            [line for child in _tree(shown.children) for line in _checked(child)],
            empty="Their rows were removed, or nothing was asked.",
        )
    )
    found.append(Section("Webhook", [line for one, tries in shown.sent for line in _sent(one, tries)], empty="None."))
    return found


def _tree(children: Sequence[Child]) -> list[Child]:
    """A child's own children after it; of very many, those that found something or failed first."""
    if len(children) > _MOST_CHILDREN:
        grave = [one for one in children if one.is_positive or one.error_code]
        children = sorted({one.id: one for one in (*grave, *children)}.values(), key=lambda one: one.id)[
            :_MOST_CHILDREN
        ]
    by_parent: dict[int | None, list[Child]] = {}
    there = {one.id for one in children}
    for one in children:
        by_parent.setdefault(one.parent_id if one.parent_id in there else None, []).append(one)
    return [each for one in by_parent.get(None, []) for each in (one, *by_parent.get(one.id, []))]


def _checked(child: Child) -> list[tuple[str, str]]:
    """What was asked and how it went, then a line for each score against its threshold."""
    indent = "" if child.parent_id is None else "└ "
    name = child.subject or _NAMES.get(child.kind, str(child.kind))
    at = "" if child.at_ms is None else f" at {child.at_ms / 1000:.1f} s"
    done = "✓ done" if child.finding is None else "✗ found" if child.is_positive else "✓ not found"
    mark = done if child.status == "completed" else "! failed" if child.status == "failed" else str(child.status)
    ms = None if child.finished_at is None or child.started_at is None else child.finished_at - child.started_at
    told = [mark, took(ms), f"{child.attempts} attempts" if child.attempts > 1 else ""]
    lines = [(f"{indent}{name}{at}", " · ".join(one for one in told if one))]
    finding = child.finding
    if finding is not None and finding.term is not None:
        lines.append(("", f"term {finding.term!r}" + (f" ({finding.language})" if finding.language else "")))
    for score in finding.scores if finding else []:
        sign = "≥" if score.is_over else "<"
        asked = f"@{score.prompt}" if score.prompt else ""
        lines.append(("", f"{score.category}{asked}: {score.score:.3f} {sign} {score.threshold:g}  {score.label}"))
        weights = f"weights {score.digest[:8]}" if score.digest else ""
        who = [score.model, score.device, f"{score.ms:.0f} ms", weights]
        lines.append(("", "  " + " · ".join(one for one in who if one)))
    if child.error_code:
        lines.append(("", f"{child.error_code}: {child.error}"))
    return lines


def _sent(one: "jobs.Delivery", tries: Sequence["jobs.Attempt"]) -> list[tuple[str, str]]:
    lines = [(str(one.status), one.url)]
    for each in tries:
        answer = f"HTTP {each.http_status}" if each.http_status is not None else (each.error or "no answer")
        lines.append((f"└ {words.moment(each.at)[11:]}", f"{answer} · {each.ms:.0f} ms"))
    return lines


def _flagged(categories: dict[str, object]) -> list[str]:
    own = cast("dict[str, object]", categories.get("custom") or {})
    return [slug for found in (categories, own) for slug, is_true in found.items() if is_true is True]


SCREEN = Jobs
