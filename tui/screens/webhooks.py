"""Webhooks: the endpoints above, their deliveries below. What was sent is told by its verdict, never by its words."""

# pyright: reportUnknownMemberType=false
# Textual types `app` as an App of nobody knows what.

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input

from tui import words
from tui.backend import webhooks
from tui.backend.desk import Refused
from tui.backend.webhooks import Delivery, Ping, Place, State
from tui.screens.listed import Listed, copying
from tui.widgets.dialogs import REASON, Asked, Choose, Confirm, Shown
from tui.widgets.pair import Detail, Pair, Section
from tui.widgets.rows import Column, Line, Rows

_TONE = {State.DELIVERED: "", State.FAILED: "bad", State.PENDING: "warn", State.SENDING: "warn"}
_BAD, _POOR = 0.5, 0.05  # of the deliveries that came out, failed
_ROOM = 8  # lines of the endpoints' table, at most
_EVERY_S = 5.0
_REST = 50  # times as long as asking took, before it is asked again: 2 % of a core, however long the table is
_SINCE = {"ever": None, "the last hour": 3_600_000, "the last day": 86_400_000, "the last 7 days": 7 * 86_400_000}


class Deliveries:
    """The backend's, as lines."""

    def __init__(self, found: webhooks.Deliveries, names: dict[str, str], now: int) -> None:
        self._found = found
        self._names = names
        self._now = now

    def count(self) -> int:
        return self._found.count()

    def window(self, first: int, count: int) -> Sequence[Line]:
        return [self._line(one) for one in self._found.window(first, count)]

    def _line(self, one: Delivery) -> Line:
        state = one.status.value
        following = words.ago(one.next_at, self._now) if one.status is State.PENDING else "—"
        return Line(
            one.id,
            (
                state,
                one.id,
                self._names.get(one.org_id, one.org_id),
                str(one.attempts),
                words.ago(one.created_at, self._now),
                "due" if one.status is State.PENDING and one.next_at <= self._now else following,
                one.url if not one.is_global else "its endpoint",
            ),
            tone=_TONE[one.status],
        )


class Webhooks(Listed):
    NAME = "webhooks"
    HINT = "/ filter: a state, an organisation, the beginning of an id"
    COLUMNS = (
        Column("State", 9),
        Column("Delivery", 15, grows=True),
        Column("Organisation", 14, grows=True),
        Column("Tries", 5, align="right"),
        Column("Made", 8, align="right"),
        Column("Next", 10, align="right"),
        Column("To", 20, grows=True, least=110),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "replay", "Replay", id="webhooks.replay", tooltip="Send the delivery under the cursor again"),
        Binding("f", "replay_failed", "All failed", id="webhooks.replay_failed", tooltip="Send all failed ones again"),
        Binding("d", "pause", "On/off", id="webhooks.pause", tooltip="Send nothing to an endpoint, or again"),
        Binding("o", "rotate", "Secret", id="webhooks.rotate", tooltip="A new signing secret; the old one signs a day"),
        Binding("t", "test", "Test", show=False, id="webhooks.test", tooltip="Send an endpoint a test, once; audited"),
        Binding("v", "reveal", "Reveal", show=False, id="webhooks.reveal", tooltip="Show a signing secret; audited"),
        Binding("n", "new", "New", show=False, id="webhooks.new", tooltip="Register an address for an organisation"),
        Binding("D", "remove", "Remove", show=False, id="webhooks.remove", tooltip="Unregister the endpoint"),
        Binding("s", "state", "State", show=False, id="webhooks.state", tooltip="Only deliveries of the next state"),
        copying("webhooks"),
    ]
    DEFAULT_CSS = """
    Webhooks #places { height: auto; max-height: 10; border-bottom: solid $panel; }
    Webhooks #endpoints { height: 2; }
    """

    _found: Sequence[Place] = ()
    _names: dict[str, str] = {}  # noqa: RUF012  # replaced, never changed

    def body(self) -> ComposeResult:
        endpoints = Rows(
            [
                Column("Endpoint of", 16, grows=True),
                Column("State", 8),
                Column("Failed", 12, align="right"),
                Column("Last", 8, align="right"),
                Column("Address", 24, grows=True),
                Column("Secret made", 11, align="right", least=110),
            ],
            id="endpoints",
            empty="…",
        )
        yield Vertical(endpoints, id="places")
        yield from self.bar()
        yield Pair(Rows(self.COLUMNS, id=self.NAME, empty="…"), Detail(id="detail"), id="pair")

    AUTO_FOCUS = "#webhooks"

    _rest_until = 0.0

    def on_mount(self) -> None:
        super().on_mount()
        self.set_interval(_EVERY_S, self._look_again)

    def _look_again(self) -> None:
        if self.is_current and time.monotonic() >= self._rest_until:
            self.action_reload()

    async def load(self) -> None:
        began = time.monotonic()
        self._names = await self.ask(lambda: webhooks.names(self.desk))
        self._found = await self.ask(lambda: webhooks.every(self.desk))
        rows = self.query_one("#endpoints", Rows)
        rows.empty = "No endpoint is registered: n registers one."
        rows.styles.height = 1 + max(1, min(len(self._found), _ROOM))
        rows.show([_endpoint(one, self.desk.now()) for one in self._found])
        await self._follow()
        self._rest_until = time.monotonic() + _REST * (time.monotonic() - began)
        if self.pair.is_open:
            self.tell()

    async def _follow(self) -> None:
        text = self.query_one("#filter", Input).value
        try:
            wanted = webhooks.parse(text, self._names)
        except Refused as error:
            self.table.empty = error.message
            self.table.show([])
            self.say_count("0")
            return
        found = webhooks.Deliveries(self.desk, wanted)
        self.table.empty = "None is like that: escape clears the filter." if text else "Nothing was sent yet."
        await self.table.follow(Deliveries(found, self._names, self.desk.now()))
        self.say_count(f"{self.table.row_count:,}")

    def sift(self) -> None:
        self.run_worker(self._follow, group="load", exclusive=True)

    def on_rows_broken(self, message: Rows.Broken) -> None:
        message.rows.empty = self.broken(message.error)
        message.rows.refresh()
        super().on_rows_broken(message)

    def broken(self, error: Exception) -> str:
        sentence = super().broken(error)
        if not self._found:
            self.query_one("#endpoints", Rows).empty = sentence
            self.query_one("#endpoints", Rows).refresh()
        return sentence

    async def detail_of(self, key: str) -> Sequence[Section]:
        found = await self.ask(lambda: webhooks.detail(self.desk, key))
        one, told, now = found.delivery, found.told, self.desk.now()
        said = [
            ("Verdict", _verdict(told.status, told.is_prohibited)),
            ("Found", ", ".join(told.true) or "nothing"),
            ("Kind", told.kind or "not said"),
            *([("Batch", f"{told.items:,} jobs, {told.prohibited:,} prohibited")] if told.items else []),
            *([("Error", told.error_code)] if told.error_code else []),
            ("Size", f"{words.size(told.size_bytes)}; its words are not shown"),
        ]
        facts = [
            ("Delivery", one.id),
            ("State", one.status.value),
            ("Organisation", found.org),
            ("To", one.url + (" (the registered endpoint)" if one.is_global else " (its own address)")),
            ("Job" if one.job_id else "Batch", one.job_id or one.batch_id or "—"),
            ("Made", f"{words.moment(one.created_at)}  ({words.ago(one.created_at, now)})"),
            ("Next try", words.moment(one.next_at) if one.status is State.PENDING else "none"),
            ("Ended", words.moment(one.finished_at)),
        ]
        tries = [
            (
                words.moment(attempt.at),
                "no answer" if attempt.http_status is None else str(attempt.http_status),
                f"{attempt.ms:,.0f} ms",
                attempt.error or "",
            )
            for attempt in reversed(found.attempts)
        ]
        return [
            Section("", facts),
            Section(f"Attempts, newest first ({len(tries)})", tries, empty="None yet."),
            Section("Said", said),
        ]

    # --- deliveries -------------------------------------------------------------------------------------------------

    def action_state(self) -> None:
        field = self.query_one("#filter", Input)
        states = ["", *(one.value for one in State)]
        kept = field.value.split()
        here = next((one for one in kept if one in states), "")
        following = states[(states.index(here) + 1) % len(states)]
        field.value = " ".join([*([following] if following else []), *(one for one in kept if one not in states)])

    @work
    async def action_replay(self) -> None:
        line = self.table.current
        if line is None or not self.may():
            return
        await self.fill(
            "Send it again",
            [REASON],
            lambda given: webhooks.replay(self.desk, line.key, given["reason"]),
            yes="Replay",
            done=lambda one: f"{one.id} is due now; a running worker sends it within seconds",
            text=f"{line.key}\nA new round of attempts, under the same id and with the same body.",
        )

    @work
    async def action_replay_failed(self) -> None:
        org_id = await self._organisation("Whose failed deliveries go out again?")
        if org_id is None or not self.may():
            return
        name = self._names[org_id]
        await self.fill(
            f"Send all failed ones of {name} again",
            [
                Asked("since", "Made in", choices=tuple(_SINCE)),
                Asked("day", "or since this day (UTC)", placeholder="2026-05-01", wrong=_not_a_day),
                REASON,
            ],
            lambda given: webhooks.replay_failed(self.desk, org_id, self._since(given), given["reason"]),
            yes="Replay",
            done=lambda made: (
                f"{made[0]:,} go out again"
                + (f"; {made[1]:,} are left: their endpoint takes nothing" if made[1] else "")
            ),
        )

    def _since(self, given: dict[str, str]) -> int:
        if given["day"]:
            return int(datetime.fromisoformat(given["day"]).replace(tzinfo=UTC).timestamp() * 1000)
        span = _SINCE[given["since"]]
        return 0 if span is None else self.desk.now() - span

    async def _organisation(self, question: str, *, registered: bool = False) -> str | None:
        """The one whose endpoint is under the cursor, when that table has the focus; else it is asked."""
        if self.query_one("#endpoints").has_focus and (place := self._place()):
            return place.org_id
        known = {one.org_id for one in self._found} if registered else self._names
        options = [(org_id, name) for org_id, name in self._names.items() if org_id in known]
        if len(options) == 1:
            return options[0][0]
        if not options:
            self.notify("There is none yet: n registers one.")
            return None
        place = self._place()
        return await self.app.push_screen_wait(Choose(question, options, chosen=place.org_id if place else ""))

    # --- endpoints --------------------------------------------------------------------------------------------------

    def _place(self) -> Place | None:
        line = self.query_one("#endpoints", Rows).current
        return None if line is None else next((one for one in self._found if one.org_id == line.key), None)

    async def _asked_place(self, question: str) -> Place | None:
        if not self.may():
            return None
        org_id = await self._organisation(question, registered=True)
        return next((one for one in self._found if one.org_id == org_id), None)

    def on_rows_chosen(self, event: Rows.Chosen) -> None:
        """An endpoint that is chosen narrows the deliveries down to its organisation's."""
        if event.rows.id == "endpoints" and (place := self._place()):
            self.query_one("#filter", Input).value = place.org
            self.table.focus()
        else:
            super().on_rows_chosen(event)

    @work
    async def action_new(self) -> None:
        if not self.may():
            return
        if not self._names:
            self.notify("There is no organisation yet: g r, then n.")
            return
        place = self._place()
        made = await self.fill(
            "Where results go",
            [
                Asked("org", "Organisation", value=place.org if place else "", choices=tuple(self._names.values())),
                Asked("url", "Address", is_required=True, placeholder="https://…"),
            ],
            lambda given: webhooks.register(self.desk, given["org"], given["url"]),
            yes="Register",
            done=lambda made: f"Results go to {made[0].url}",
            text="It takes the place of the address there was; a disabled one is enabled.",
        )
        if made is None:
            return
        registered, trouble = made
        if trouble:
            self.notify(trouble, severity="warning", timeout=15, markup=False)
        if registered.secret is not None:
            await self.app.push_screen_wait(Shown("The signing secret, new", _SECRET, registered.secret))

    @work
    async def action_pause(self) -> None:
        one = await self._asked_place("Which endpoint?")
        if one is None:
            return
        is_pausing = not one.endpoint.is_disabled
        deed = webhooks.disable if is_pausing else webhooks.enable
        await self.fill(
            f"{'Disable' if is_pausing else 'Enable'} the endpoint of {one.org}",
            [REASON],
            lambda given: deed(self.desk, one.org_id, given["reason"]),
            yes="Disable" if is_pausing else "Enable",
            done=lambda _: f"The endpoint of {one.org} is {'disabled' if is_pausing else 'enabled'}; d takes it back",
            text="Nothing is sent there until it is enabled; what would go there is kept as failed, to be replayed. "
            "Jobs with an address of their own are still sent."
            if is_pausing
            else f"It was disabled: {one.endpoint.disabled_reason}. What failed meanwhile goes out again with f.",
            destructive=is_pausing,
        )

    @work
    async def action_rotate(self) -> None:
        one = await self._asked_place("Whose signing secret?")
        if one is None:
            return
        made = await self.fill(
            f"A new signing secret for {one.org}",
            [REASON],
            lambda given: webhooks.rotate(self.desk, one.org_id, given["reason"]),
            yes="Rotate",
            done=lambda _: f"The secret of {one.org} is rotated",
            text=f"The one there is signs beside it for {webhooks.GRACE_HOURS} hours, so that receivers change over; "
            "one older ends now.",
        )
        if made is not None:
            await self.app.push_screen_wait(Shown("The signing secret", _SECRET, made.secret))

    @work
    async def action_test(self) -> None:
        one = await self._asked_place("Which endpoint is sent a test?")
        if one is None or not await self.app.push_screen_wait(
            Confirm(
                f"Send the endpoint of {one.org} a test",
                f"{one.endpoint.url} gets one signed body of type test, which is no delivery.",
                yes="Send",
                destructive=False,
            )
        ):
            return
        self.notify("It is on its way…", timeout=2)
        await self.do(partial(webhooks.test, self.desk, one.org_id), _pinged)

    @work
    async def action_reveal(self) -> None:
        one = await self._asked_place("Whose signing secret?")
        if one is None or not await self.app.push_screen_wait(
            Confirm(
                f"Show the signing secret of {one.org}",
                "Who sees it can forge deliveries. That it was shown stands in the audit log, with your name.",
                yes="Show it",
            )
        ):
            return
        made = await self.do(partial(webhooks.reveal, self.desk, one.org_id), "It was shown; the audit log says so")
        if made is not None:
            await self.app.push_screen_wait(Shown("The signing secret", _SECRET, made.secret))

    @work
    async def action_remove(self) -> None:
        one = await self._asked_place("Which endpoint?")
        if one is not None and await self.app.push_screen_wait(
            Confirm(
                f"Unregister the endpoint of {one.org}",
                f"Results go to {one.endpoint.url} no more; what is still to be sent there fails. Its secret stays.",
                yes="Unregister",
            )
        ):
            await self.do(partial(webhooks.unregister, self.desk, one.org_id), f"{one.org} has no endpoint any more")


_SECRET = "Copy it to the receiver. By it, it knows that a delivery is ours."  # noqa: S105  # a sentence


def _endpoint(one: Place, now: int) -> Line:
    health = one.health
    share = health.failed / health.finished if health.finished else 0.0
    state = "disabled" if one.endpoint.is_disabled else "enabled"
    tone = "bad" if one.endpoint.is_disabled or share >= _BAD else "warn" if share >= _POOR else ""
    last = "—" if health.last_at is None else "silent" if health.last_status is None else str(health.last_status)
    return Line(
        one.org_id,
        (
            one.org,
            state,
            f"{share:.0%} of {health.finished}" if health.finished else "—",
            last,
            one.endpoint.url if not one.endpoint.is_disabled else f"{one.endpoint.disabled_reason}: {one.endpoint.url}",
            words.ago(one.secret_at, now) + (" (2)" if one.previous_until is not None else ""),
        ),
        tone=tone,
    )


def _pinged(found: Ping) -> str:
    tried = found.attempt
    said = "No answer" if tried.http_status is None else f"{tried.http_status}"
    end = f": {tried.error}" if tried.error else "" if found.is_answered else ", which is no success"
    return f"{said} in {tried.ms:,.0f} ms from {found.url}{end}"


def _verdict(status: str, is_prohibited: bool | None) -> str:
    if is_prohibited is None:
        return f"{status}, without a verdict"
    return f"{status}, {'prohibited' if is_prohibited else 'passed'}"


def _not_a_day(text: str) -> str | None:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return "A day is written as 2026-05-01"
    return None


SCREEN = Webhooks
