"""Organisations: what holds for each; pausing, banning and, behind its name typed, erasing one."""

# pyright: reportUnknownMemberType=false
# Textual types `app` as an App of nobody knows what.

import shlex
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType

from tui import words
from tui.backend import organisations
from tui.backend.organisations import Detail, Report, Standing, Tenant
from tui.screens.listed import Listed, copying
from tui.widgets.dialogs import REASON, Asked, Confirm, Form, Progress
from tui.widgets.pair import Section
from tui.widgets.rows import Column, Line

_SAID = {Standing.ACTIVE: "active", Standing.DISABLED: "disabled", Standing.TERMINATED: "banned"}
_TONE = {Standing.DISABLED: "warn", Standing.TERMINATED: "bad"}
_SHORT = 0.9  # of the month's quota, from which on the line is warned of


class Organisations(Listed):
    NAME = "organisations"
    EMPTY = "There are no organisations yet: n makes one; a new key can make one too."
    HINT = "/ filter: words of the name, plan or standing"
    COLUMNS = (
        Column("Organisation", 16, grows=True, sorts=True),
        Column("Standing", 8, sorts=True),
        Column("Plan", 10, sorts=True),
        Column("Used", 9, align="right", sorts=True),
        Column("of", 9, align="right"),
        Column("Balance", 10, align="right", sorts=True),
        Column("Limit/min", 9, align="right", least=100),
        Column("Charged", 14, least=110),
        Column("Prompts kept", 12, align="right", least=120),
        Column("Since", 10, least=130, sorts=True),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new", "New", id="organisations.new", tooltip="Make an organisation"),
        Binding("c", "change", "Change", id="organisations.change", tooltip="Its name, plan, limits, retention"),
        Binding("d", "pause", "Dis/enable", id="organisations.pause", tooltip="Pause its keys, or end the pause"),
        Binding("B", "ban", "Ban", id="organisations.ban", tooltip="End its access everywhere at once, or let it in"),
        Binding("a", "keys", "API keys", show=False, id="organisations.keys", tooltip="Its API keys"),
        Binding("v", "jobs", "Jobs", show=False, id="organisations.jobs", tooltip="Its jobs"),
        Binding("w", "webhooks", "Webhooks", show=False, id="organisations.webhooks", tooltip="Where its results go"),
        Binding(
            "u", "undo", "Undo", show=False, id="organisations.undo", tooltip="Take back the last pause or its end"
        ),
        Binding(
            "E",
            "erase",
            "Erase",
            show=False,
            id="organisations.erase",
            tooltip="Remove all of it for good, once its name is typed",
        ),
        copying("organisations"),
    ]

    _found: Sequence[Tenant] = ()
    _undo: tuple[str, Callable[[], object]] | None = None

    async def load(self) -> None:
        self._found = await self.ask(lambda: organisations.every(self.desk))
        self.sift()
        if self.pair.is_open:
            self.tell()

    def sift(self) -> None:
        wanted = self.words
        shown = [one for one in self._found if all(word in _searched(one) for word in wanted)]
        self.table.empty = self.EMPTY if not self._found else "None is like that: escape clears the filter."
        self.table.show([_line(one) for one in shown])
        of = "" if len(shown) == len(self._found) else f" of {len(self._found):,}"
        self.say_count(f"{len(shown):,}{of}")

    async def detail_of(self, key: str) -> Sequence[Section]:
        return _sections(await self.ask(lambda: organisations.detail(self.desk, key)), self.desk.now())

    def _chosen(self) -> Tenant | None:
        line = self.table.current
        return None if line is None else next((one for one in self._found if one.org.id == line.key), None)

    # --- elsewhere --------------------------------------------------------------------------------------------------

    def action_keys(self) -> None:
        if one := self._chosen():
            self.visit("keys", one.org.name)

    def action_jobs(self) -> None:
        if one := self._chosen():
            self.visit("jobs", f"org:{shlex.quote(one.org.name)}")

    def action_webhooks(self) -> None:
        if one := self._chosen():
            self.visit("webhooks", one.org.name)

    # --- changing ---------------------------------------------------------------------------------------------------

    @work
    async def action_new(self) -> None:
        if not self.may():
            return
        name = Asked("name", "Name", is_required=True)
        reason = Asked("reason", REASON.label, placeholder=REASON.placeholder)
        await self.fill(
            "A new organisation",
            [name, *await self._settable(None), reason],
            partial(organisations.create, self.desk),
            yes="Make it",
            done=lambda made: f"{made.name} is made; its first key: g k, then n",
        )

    @work
    async def action_change(self) -> None:
        one = self._chosen()
        if one is None or not self.may():
            return
        name = Asked("name", "Name", value=one.org.name, is_required=True)
        await self.fill(
            f"What holds for {one.org.name}",
            [name, *await self._settable(one), REASON],
            partial(organisations.change, self.desk, one.org.id),
            yes="Change",
            done=lambda made: f"{made.name} is changed, for all its keys at once",
        )

    async def _settable(self, one: Tenant | None) -> list[Asked]:
        plans = await self.ask(lambda: organisations.plan_names(self.desk))
        said = one.said if one else None
        holds = said.effective if said else None
        return [
            Asked("plan", "Plan", value=said.plan if said else "standard", choices=plans),
            _whole("per_minute", "Requests a minute", said and said.rate_limit_per_minute),
            _whole("per_second", "Requests in one second, of those", said and said.burst_per_second),
            Asked("charge", "Charged", value=(said and said.charge_method) or "", choices=organisations.CHARGES),
            _whole(
                "retain_days",
                f"Days that prompts are kept{f' (now {holds.retain_prompts_days})' if holds else ''}",
                said and said.retain_prompts_days,
            ),
        ]

    @work
    async def action_pause(self) -> None:
        one = self._chosen()
        if one is None or not self.may():
            return
        org = one.org
        if org.status is Standing.TERMINATED:
            self.notify(f"{org.name} is banned: B ends that", markup=False)
            return
        is_pausing = org.status is Standing.ACTIVE
        verb, back = (
            (organisations.disable, organisations.enable)
            if is_pausing
            else (organisations.enable, organisations.disable)
        )
        made = await self.fill(
            f"{'Disable' if is_pausing else 'Enable'} {org.name}",
            [REASON],
            lambda given: verb(self.desk, org.id, given["reason"]),
            yes="Disable" if is_pausing else "Enable",
            done=lambda made: f"{made.name} is {_SAID[made.status]}; u takes it back",
            text="Its keys are refused with FORBIDDEN until it is enabled again. What it submitted is finished."
            if is_pausing
            else f"It was disabled: {org.status_reason or 'no reason is kept'}. Its keys work again at once.",
            destructive=is_pausing,
        )
        if made is not None:
            before = org.status_reason or "undone"
            reason = "undone" if is_pausing else before
            self._undo = (org.name, lambda: back(self.desk, org.id, reason))

    @work
    async def action_undo(self) -> None:
        if self._undo is None:
            self.notify("There is nothing to take back.")
            return
        (name, deed), self._undo = self._undo, None
        await self.do(deed, f"{name} is as it was")

    @work
    async def action_ban(self) -> None:
        one = self._chosen()
        if one is None or not self.may():
            return
        org = one.org
        is_banned = org.status is Standing.TERMINATED
        verb = organisations.unban if is_banned else organisations.ban
        await self.fill(
            f"{'End the ban of' if is_banned else 'Ban'} {org.name}",
            [REASON],
            lambda given: verb(self.desk, org.id, given["reason"]),
            yes="End the ban" if is_banned else "Ban",
            done=lambda made: f"{made.name} is {_SAID[made.status]}",
            text=f"It was banned: {org.status_reason or 'no reason is kept'}. Its keys are good again."
            if is_banned
            else (
                "Every route answers ACCOUNT_TERMINATED to its keys, at once in every process, and its streams end. "
                "What it submitted is finished. Nothing is erased."
            ),
            destructive=not is_banned,
        )

    @work
    async def action_erase(self) -> None:
        one = self._chosen()
        if one is None or not self.may():
            return
        org = one.org
        planned = await self.ask(lambda: organisations.would_erase(self.desk, org.id))
        lines = [f"{count:>10,}  {table}" for table, count in planned.items() if count]
        text = (
            "Jobs, keys, categories, terms, addresses and cards go for good, and the files are looked through for what "
            "is left of them. The ledger, the audit log and the counts of use stay. Backups are yours to remove.\n\n"
        ) + "\n".join(lines)
        if not await self.app.push_screen_wait(
            Confirm(f"Erase {org.name}", text, yes="Go on", word=org.name, destructive=True)
        ):
            return
        given = await self.app.push_screen_wait(
            Form(f"Erase {org.name}", [REASON], yes="Erase", text="This is the last question.", destructive=True)
        )
        if given is None:
            return
        jobs = planned.get("job", 0)
        outcome = await self.app.push_screen_wait(
            Progress[Report](
                f"Erasing {org.name}",
                lambda going: organisations.erase(
                    self.desk,
                    org.id,
                    given["reason"],
                    lambda gone: going.tell(gone, jobs, f"{gone:,} of {jobs:,} jobs"),
                ),
                text="Cancelled, it can be gone on with: it is closed to its keys from now on.",
            )
        )
        self.action_reload()
        if outcome.is_cancelled:
            self.notify(f"{org.name} is not erased whole yet: E goes on", severity="warning", markup=False)
        elif outcome.error is not None:
            self.trouble(outcome.error)
        elif outcome.value is not None:
            proven = outcome.value.is_proven
            self.notify(
                f"{org.name} is erased, and nothing of it was found in the files"
                if proven
                else f"{org.name} is erased, but not proven gone from every file: customhouse erase says what to do",
                severity="information" if proven else "warning",
                timeout=15,
                markup=False,
            )


def _line(one: Tenant) -> Line:
    org, used = one.org, one.quota
    most = used.monthly_request_quota
    holds = one.said.effective
    is_short = most is not None and used.used >= _SHORT * most
    return Line(
        org.id,
        (
            org.name,
            _SAID[org.status],
            org.plan,
            f"{used.used:,}",
            "no end" if most is None else f"{most:,}",
            words.money(one.balance_micros),
            f"{holds.rate_limit_per_minute:,}",
            "no" if holds.charge_method == "none" else holds.charge_method,
            f"{holds.retain_prompts_days} d",
            words.moment(org.created_at)[:10],
        ),
        tone=_TONE.get(org.status, "warn" if is_short or one.balance_micros < 0 else ""),
        values=(
            org.name,
            _SAID[org.status],
            org.plan,
            used.used,
            None,
            one.balance_micros,
            None,
            None,
            None,
            org.created_at,
        ),
    )


def _sections(found: Detail, now: int) -> list[Section]:
    one = found.tenant
    org, said, used = one.org, one.said, one.quota
    holds = said.effective
    standing = _SAID[org.status] + (f": {org.status_reason}" if org.status_reason else "")
    most = "no end" if used.monthly_request_quota is None else f"{used.monthly_request_quota:,}"
    left = "" if used.remaining is None else f", {used.remaining:,} left until {words.moment(used.resets_at)[:10]}"
    burst = f", {holds.burst_per_second:,} in one second" if holds.burst_per_second else ""
    own = said.rate_limit_per_minute is not None or said.burst_per_second is not None
    facts = [
        ("Organisation", org.name),
        ("Standing", standing),
        ("Plan", org.plan),
        ("This month", f"{used.used:,} of {most}{left}"),
        ("Limits", f"{holds.rate_limit_per_minute:,} a minute{burst} ({_origin(own)})"),
        ("Balance", words.money(one.balance_micros)),
        ("Charged", f"{_charged(holds.charge_method)} ({_origin(said.charge_method is not None)})"),
        ("Prompts kept", f"{holds.retain_prompts_days} d ({_origin(said.retain_prompts_days is not None)})"),
        ("Checks on", ", ".join(found.checks_on) or "none"),
        ("Prompt steps", ", ".join(f"{name} from {least:g}" for name, least in found.steps.items()) or "none"),
        ("Webhook", _webhook(found)),
        ("Since", words.moment(org.created_at)),
        ("Id", org.id),
    ]
    held = [
        (f"{owned.key.prefix}…", owned.state.value, f"{owned.key.name}, used {words.ago(owned.key.last_used_at, now)}")
        for owned in found.keys
    ]
    happened = [
        (words.moment(line.at), f"{line.action}  {line.actor}" + (f"\n{line.reason}" if line.reason else ""))
        for line in found.lines
    ]
    return [
        Section("", facts),
        Section(f"Keys ({len(held)}; a goes there)", held, empty="None: it can ask for nothing yet."),
        Section("Audit", happened, empty="Nothing stands in the audit log."),
    ]


def _origin(is_own: bool) -> str:
    return "its own" if is_own else "as the plan or the settings say"


def _charged(method: str) -> str:
    return "no" if method == "none" else method


def _webhook(found: Detail) -> str:
    if found.endpoint is None:
        return "none registered"
    state = f", disabled: {found.endpoint.disabled_reason}" if found.endpoint.is_disabled else ""
    return found.endpoint.url + state


def _searched(one: Tenant) -> str:
    return f"{one.org.name} {one.org.id} {one.org.plan} {_SAID[one.org.status]} {one.org.status}".casefold()


def _whole(name: str, label: str, value: int | None) -> Asked:
    return Asked(
        name,
        label,
        value="" if value is None else str(value),
        placeholder="as the plan or the settings say",
        wrong=lambda text: (
            None if text.isascii() and text.isdecimal() and len(text) <= 9 else f"{label}: a whole number, or nothing"
        ),
    )


SCREEN = Organisations
