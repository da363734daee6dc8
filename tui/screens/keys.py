"""API keys: made, rotated, revoked. A raw key is seen in one dialog, once, and nowhere else."""

# pyright: reportUnknownMemberType=false
# Textual types `app` as an App of nobody knows what.

from collections.abc import Sequence
from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType

from tui import words
from tui.backend import keys
from tui.backend.keys import Issued, Owned, State
from tui.screens.listed import Listed, copying
from tui.widgets.dialogs import REASON, Asked, Choose, Shown
from tui.widgets.pair import Section
from tui.widgets.rows import Column, Line

_TONE = {State.EXPIRING: "warn", State.IN_GRACE: "warn", State.EXPIRED: "muted", State.REVOKED: "muted"}
_GRACE = {
    "for another day": 86_400,
    "for another hour": 3_600,
    "for another 7 days": 7 * 86_400,
    "for another 30 days": 30 * 86_400,
    "no longer": 0,
}
_ONCE = (
    "Copy it now: only its beginning is kept, and nobody can show it again. It goes to the client's own store of "
    "secrets, not into a message."
)


class Keys(Listed):
    NAME = "keys"
    EMPTY = "There are no keys yet: n makes one, and its organisation with it."
    HINT = "/ filter: words of the key, its organisation, name, state or scopes"
    COLUMNS = (
        Column("Key", 17, sorts=True),
        Column("State", 8, sorts=True),
        Column("Organisation", 14, grows=True, sorts=True),
        Column("Name", 12, grows=True, sorts=True),
        Column("Surface", 12, least=100),
        Column("May", 30, grows=True, least=120),
        Column("Used", 8, align="right", sorts=True),
        Column("Expires", 9, align="right", sorts=True),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new", "New", id="keys.new", tooltip="Make a key; it is shown once"),
        Binding("r", "rotate", "Rotate", id="keys.rotate", tooltip="Put another in its place, with a grace"),
        Binding("X", "revoke", "Revoke", id="keys.revoke", tooltip="Refuse it from now on, everywhere at once"),
        Binding("s", "state", "State", id="keys.state", tooltip="Only keys of the next state, then all again"),
        copying("keys"),
    ]

    _found: Sequence[Owned] = ()
    _state: State | None = None

    async def load(self) -> None:
        self._found = await self.ask(lambda: keys.every(self.desk))
        self.sift()
        if self.pair.is_open:
            self.tell()

    def sift(self) -> None:
        wanted = self.words
        shown = [
            one
            for one in self._found
            if self._state in (None, one.state) and all(word in _searched(one) for word in wanted)
        ]
        self.table.empty = self.EMPTY if not self._found else "No key is like that: escape clears the filter."
        self.table.show([self._line(one) for one in shown])
        state = f" {self._state.value}" if self._state else ""
        of = "" if len(shown) == len(self._found) else f" of {len(self._found):,}"
        self.say_count(f"{len(shown):,}{of}{state}")

    def _line(self, one: Owned) -> Line:
        key, now = one.key, self.desk.now()
        return Line(
            key.id,
            (
                f"{key.prefix}…",
                one.state.value,
                one.org,
                key.name,
                key.surface if key.surface == "stars" else f"{key.surface} {key.environment}",
                " ".join(key.scopes),
                words.ago(key.last_used_at, now),
                _ends(key.expires_at, now),
            ),
            tone=_TONE.get(one.state, ""),
            values=(key.prefix, one.state.value, one.org, key.name, None, None, _age(key.last_used_at), key.expires_at),
        )

    async def detail_of(self, key: str) -> Sequence[Section]:
        found = await self.ask(lambda: keys.detail(self.desk, key))
        one, now, uses = found.owned, self.desk.now(), found.uses
        row = one.key
        facts: list[tuple[str, str]] = [
            ("Key", f"{row.prefix}…"),
            ("State", one.state.value),
            ("Organisation", one.org if one.org_standing == "active" else f"{one.org} ({one.org_standing})"),
            ("Name", row.name),
            ("Surface", f"{row.surface}, {row.environment}"),
            ("May", ", ".join(row.scopes)),
            ("Created", words.moment(row.created_at)),
            ("Last used", _said(row.last_used_at, now, "never")),
            ("Expires", _said(row.expires_at, now, "never")),
        ]
        facts += [("Revoked", _said(row.revoked_at, now, ""))] if row.revoked_at is not None else []
        facts += [("Replaces", f"{found.replaces}…")] if found.replaces else []
        facts += [("Replaced by", f"{one.replaced_by}…")] if one.replaced_by else []
        facts += [("Id", row.id)]
        submitted = [
            ("Jobs", f"{uses.jobs:,}, of the organisation's newest {uses.looked_at:,}"),
            ("Prohibited", f"{uses.prohibited:,}"),
            ("The last", _said(uses.newest_at, now, "none")),
        ]
        happened = [
            (words.moment(line.at), f"{line.action}  {line.actor}" + (f"\n{line.reason}" if line.reason else ""))
            for line in found.lines
        ]
        return [
            Section("", facts),
            Section("Submitted", submitted),
            Section("Audit", happened, empty="Nothing stands in the audit log."),
        ]

    def copied(self, line: Line) -> str:
        return line.key

    def _chosen(self) -> Owned | None:
        line = self.table.current
        return None if line is None else next((one for one in self._found if one.key.id == line.key), None)

    def action_state(self) -> None:
        states = [None, *State]
        self._state = states[(states.index(self._state) + 1) % len(states)]
        self.sift()

    @work
    async def action_new(self) -> None:
        if not self.may():
            return
        org = await self._owner()
        if org is None:
            return
        asked = [
            *([] if org else [Asked("org", "Name of the new organisation", is_required=True)]),
            Asked("name", "Name of the key", is_required=True, placeholder="What it is for, e.g. production"),
            Asked("surface", "Surface", choices=keys.SURFACES),
            Asked("environment", "Environment", choices=("live", "test")),
            Asked("days", "Expires after so many days", placeholder="never", wrong=_not_days),
            Asked("reason", REASON.label, placeholder=REASON.placeholder),
            Asked("scopes", "It may (space ticks; none ticked = its surface's usual ones)", many=keys.SCOPES),
        ]
        issued = await self.fill(
            f"A new key for {org}" if org else "A new key and its organisation",
            asked,
            lambda given: keys.create(self.desk, _new({"org": org, **given})),
            yes="Make it",
            done=lambda made: f"{made.key.prefix}… is made",
        )
        await self._show_once(issued)

    async def _owner(self) -> str | None:
        """The name of an organisation there is; "" = a new one; None = cancelled."""
        owners = await self.ask(lambda: keys.owners(self.desk))
        if not owners:
            return ""
        here = self._chosen()
        options = [("new", "A new organisation…"), *((f"org {name}", name) for name in owners)]
        chosen = f"org {here.org}" if here else ""
        found = await self.app.push_screen_wait(Choose("Whose key is it to be?", options, chosen=chosen))
        return None if found is None else found.removeprefix("org ") if found != "new" else ""

    @work
    async def action_rotate(self) -> None:
        one = self._chosen()
        if one is None or not self.may():
            return
        issued = await self.fill(
            f"Rotate {one.key.prefix}…",
            [Asked("grace", "The old key works", choices=tuple(_GRACE)), REASON],
            lambda given: keys.rotate(self.desk, one.key.id, _GRACE[given["grace"]], given["reason"]),
            yes="Rotate",
            done=lambda made: f"{made.key.prefix}… takes the place of {one.key.prefix}…",
            text=f"{one.org}/{one.key.name} gets a new key with the same scopes and the same end.",
        )
        await self._show_once(issued)

    @work
    async def action_revoke(self) -> None:
        one = self._chosen()
        if one is None or not self.may():
            return
        if one.state is State.REVOKED:
            self.notify(f"{one.key.prefix}… is revoked already", markup=False)
            return
        used = words.ago(one.key.last_used_at, self.desk.now())
        await self.fill(
            f"Revoke {one.key.prefix}…",
            [REASON],
            lambda given: keys.revoke(self.desk, one.key.id, given["reason"]),
            yes="Revoke",
            done=lambda key: f"{key.prefix}… is revoked",
            text=(
                f"{one.org}/{one.key.name}, {'never used' if used == '—' else f'last used {used} ago'}. It is refused "
                "from now on, in every process at once. This cannot be taken back."
            ),
            destructive=True,
        )

    async def _show_once(self, issued: Issued | None) -> None:
        if issued is not None:
            may = f"It may: {' '.join(issued.key.scopes)}"
            await self.app.push_screen_wait(Shown("The key, this once", f"{_ONCE}\n\n{may}", issued.raw))


def _new(given: dict[str, str]) -> keys.New:
    return keys.New(
        org=given["org"],
        name=given["name"],
        surface=given["surface"],
        environment=given["environment"],
        scopes=tuple(given["scopes"].split()),
        days=int(given["days"]) if given["days"] else None,
        reason=given["reason"],
    )


def _not_days(value: str) -> str | None:
    is_one = value.isascii() and value.isdecimal() and 1 <= int(value) <= 36_500
    return None if is_one else "Days are a whole number from 1 to 36500; nothing = it never expires"


def _searched(one: Owned) -> str:
    key = one.key
    parts = (key.prefix, key.id, one.org, key.name, one.state.value, key.surface, key.environment, *key.scopes)
    return " ".join(parts).casefold()


def _age(at_ms: int | None) -> int | None:
    return None if at_ms is None else -at_ms


def _ends(at_ms: int | None, now: int) -> str:
    if at_ms is None:
        return "never"
    return words.ago(at_ms, now) if at_ms > now else f"{words.ago(at_ms, now)} ago"


def _said(at_ms: int | None, now: int, never: str) -> str:
    if at_ms is None:
        return never
    return f"{words.moment(at_ms)}  ({_ends(at_ms, now)})"


SCREEN = Keys
