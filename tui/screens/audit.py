"""The audit log, live: who changed what, to whom, and why."""

# pyright: reportUnknownMemberType=false
# Textual types `app` as an App of nobody knows what.

import json
import shlex
from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.widgets import Input

from tui import words
from tui.backend import audit
from tui.backend.audit import Log
from tui.backend.desk import Refused
from tui.screens.jobs import when
from tui.screens.listed import Listed, copying
from tui.widgets.dialogs import Asked, Form
from tui.widgets.pair import Section
from tui.widgets.rows import Column, Line, Rows


class Source:
    """A Log as lines."""

    orders: Sequence[int] = (0,)

    def __init__(self, log: Log, now: int, *, oldest_first: bool = False) -> None:
        self._log = log
        self._now = now
        self._oldest_first = oldest_first

    def count(self) -> int:
        return len(self._log)

    def window(self, first: int, count: int) -> Sequence[Line]:
        return [
            Line(
                str(one.id),
                (
                    when(one.at, self._now),
                    one.actor.removeprefix("operator:"),
                    one.action,
                    one.subject,
                    self._log.name_of(one.org_id),
                    one.reason or "",
                ),
            )
            for one in self._log.read(first, count, oldest_first=self._oldest_first)
        ]

    def place(self, key: str, near: int) -> int | None:
        return self._log.place(int(key), oldest_first=self._oldest_first)

    def ordered(self, column: int | None, descending: bool) -> "Source":
        return Source(self._log, self._now, oldest_first=column is not None and not descending)


class Audit(Listed):
    NAME = "audit"
    EVERY_S = 2.0
    HINT = "/ words, or actor:operator:kim action:key.revoked subject:ID org:NAME from:2h"
    COLUMNS = (
        Column("When (UTC)", 11),
        Column("Who", 10, grows=True),
        Column("What", 22),
        Column("To what", 14, grows=True),
        Column("Organisation", 14, grows=True, least=110),
        Column("Why", 10, grows=True),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "narrow", "Filter", id="audit.narrow", tooltip="Narrow the list down in a form"),
        Binding("a", "same('actor')", "Same who", id="audit.actor", tooltip="Only what this one did"),
        Binding("s", "same('subject')", "Same thing", id="audit.subject", tooltip="Only what was done to this"),
        copying("audit"),
    ]

    _log: Log | None = None
    _asked: str | None = None
    """The filter that the log was read for."""
    _is_loading = False
    _top = 0
    """The newest line when the cursor was last on the first one."""

    def on_mount(self) -> None:
        super().on_mount()
        self.table.tails = True

    async def load(self) -> None:
        """All anew: what stands there stays until the new list is as long."""
        self._is_loading = True
        try:
            await self._read()
        finally:
            self._is_loading = False

    async def _read(self) -> None:
        text = self._typed()
        try:
            wanted = await self.ask(lambda: audit.asked(self.desk, text))
        except Refused as error:
            self.say_count(error.message)
            return
        log = await self.ask(lambda: Log(self.desk, wanted))
        is_other = text != self._asked
        if is_other:
            self._asked = text
            self.table.move_to(0)
            await self._take(log)
        while not log.is_whole:
            for _ in range(4):
                await self.ask(log.grow)
            if is_other:
                self.table.grow(len(log))
            self._say(log)
        if not is_other:
            await self._take(log)
        if not len(log):  # else there is something, or it cannot be read
            self.table.empty = "No line is like that: escape clears the filter." if text else "Nothing was changed yet."
        self.table.refresh()

    async def _take(self, log: Log) -> None:
        self._log = log
        if self.table.cursor == 0:
            self._top = log.newest()
        await self.table.follow(Source(log, self.desk.now()))
        self._say(log)

    def on_rows_broken(self, message: Rows.Broken) -> None:
        self.table.empty = self.broken(message.error)
        self.table.refresh()
        self.say_count("not read anew")
        super().on_rows_broken(message)

    def _load_if_seen(self) -> None:
        """The live tail: only what was added is read."""
        if self.is_current and not self._is_loading and self._log is not None:
            self.run_worker(partial(self._renew, self._log), group="tail", exclusive=True)

    async def _renew(self, log: Log) -> None:
        try:
            if await self.ask(log.renew) and log is self._log:
                await self._take(log)
        except Exception as error:  # as in Place
            self.trouble(error)

    def _say(self, log: Log) -> None:
        count = f"{len(log):,}"
        if not log.is_whole:
            self.say_count(f"{count}… {log.looked_at:.0%}")
            return
        if len(log) and not self.table.row_count:
            self.say_count("not read anew")
            return
        fresh = log.newer_than(self._top) if self.table.cursor > 0 and self.table.sorted_by is None else 0
        self.say_count(f"▲ {fresh:,} new: home   {count}" if fresh else count)

    def on_rows_moved(self, event: Rows.Moved) -> None:
        super().on_rows_moved(event)
        if self._log is not None and self.table.cursor == 0:
            self._top = self._log.newest()
            self._say(self._log)

    def _typed(self) -> str:
        return self.query_one("#filter", Input).value.strip()

    def _narrow_to(self, text: str) -> None:
        self.query_one("#filter", Input).value = text

    def sift(self) -> None:
        self.action_reload()

    def copied(self, line: Line) -> str:
        return str(line.cells[3])

    async def detail_of(self, key: str) -> Sequence[Section]:
        found = await self.ask(lambda: audit.line(self.desk, int(key)))
        if found is None:
            return [Section("", [], empty="It was removed with its organisation.")]
        facts = [
            ("When", words.moment(found.at)),
            ("Who", found.actor),
            ("What", found.action),
            ("To what", found.subject),
            ("Organisation", "" if self._log is None else self._log.name_of(found.org_id)),
            ("Why", found.reason or "no reason was given"),
            ("Line", str(found.id)),
        ]
        pretty = json.dumps(found.detail, indent=2, ensure_ascii=False)
        return [
            Section("", [fact for fact in facts if fact[1]]),
            Section("Details (JSON)", [(pretty,)] if found.detail else [], empty="None."),
        ]

    @work
    async def action_narrow(self) -> None:
        """The filter, as a form."""
        now: dict[str, str] = {}
        loose: list[str] = []
        for word in audit.parts(self._typed()):
            name, colon, value = word.partition(":")
            if colon and name in audit.NAMES:
                now[name] = value
            else:
                loose.append(word)
        given = await self.app.push_screen_wait(
            Form(
                "Which lines?",
                [
                    Asked("actor", "Who", now.get("actor", ""), placeholder="operator:kim or key:PREFIX"),
                    Asked("action", "What", now.get("action", ""), placeholder="key.revoked"),
                    Asked("subject", "To what", now.get("subject", "")),
                    Asked("org", "Organisation", now.get("org", "")),
                    Asked("from", "From", now.get("from", ""), placeholder="2026-05-19, today, 2h, 7d"),
                    Asked("to", "To", now.get("to", "")),
                    Asked("search", "Letters anywhere", " ".join(loose)),
                ],
                yes="Show them",
            ).add_class("long")
        )
        if given is None:
            return
        search = given.pop("search")
        named = [f"{name}:{shlex.quote(value)}" for name, value in given.items() if value]
        self._narrow_to(" ".join([*named, search]).strip())
        self.table.focus()

    @work(exclusive=True, group="same")
    async def action_same(self, name: str) -> None:
        line = self.table.current
        found = await self.ask(lambda: audit.line(self.desk, int(line.key))) if line else None
        if found is not None:
            value = found.actor if name == "actor" else found.subject
            self._narrow_to(f"{name}:{shlex.quote(value)}")


SCREEN = Audit
