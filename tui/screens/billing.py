"""Usage and billing: what was used, what each organisation has left, the ledger, how it stands with Stripe."""

# pyright: reportUnknownMemberType=false
# Textual types `app` as an App of nobody knows what.

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, TypeVar, cast

from rich.text import Text
from textual import on, work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Static, TabbedContent, TabPane

from tui import words
from tui.backend import billing
from tui.backend.billing import Account, Bucket, Entry, Page, Report, Standing
from tui.place import Place
from tui.widgets.code import Code, size
from tui.widgets.dialogs import REASON, Asked, Choose, Confirm, Form
from tui.widgets.facts import Fact, Facts
from tui.widgets.plot import Plot, Series
from tui.widgets.rows import Column, Line, Rows

T = TypeVar("T")

PANES = ("usage", "accounts", "ledger", "stripe")
_ONLY = {
    "period": ("usage",),
    "type": ("ledger",),
    "sync": ("stripe",),
    "compare": ("stripe",),
    "resolve": ("stripe",),
    "credit": ("accounts",),
    "link": ("accounts",),
    "stop_auto": ("accounts",),
    "prove": ("ledger",),
}
"""Action → the panes it is of; the others are of all."""


class Billing(Place):
    NAME = "billing"
    VERTICAL_BREAKPOINTS = [(0, "-low"), (40, "-tall")]  # noqa: RUF012  # as Textual types it
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "pane('usage')", "Usage", show=False, id="billing.usage", tooltip="What was used"),
        Binding("2", "pane('accounts')", "Accounts", show=False, id="billing.accounts", tooltip="What each has left"),
        Binding("3", "pane('ledger')", "Ledger", show=False, id="billing.ledger", tooltip="Every entry"),
        Binding("4", "pane('stripe')", "Stripe", show=False, id="billing.stripe", tooltip="Payments, alerts"),
        Binding("o", "whose", "Whose", id="billing.whose", tooltip="One organisation, or all together"),
        Binding("p", "period", "Period", id="billing.period", tooltip="The next longer period; after a year an hour"),
        Binding("f", "type", "Type", id="billing.type", tooltip="Entries of one type: each in turn, then all"),
        Binding("l", "prove", "Prove", id="billing.prove", tooltip="Prove that the ledger is whole: reads all of it"),
        Binding("c", "credit", "Credit", id="billing.credit", tooltip="Credit by hand, or take back"),
        Binding("t", "link", "Link", id="billing.link", tooltip="A page to pay on, as text and QR code"),
        Binding("D", "stop_auto", "Stop auto", id="billing.stop_auto", tooltip="Charge no card of it from now on"),
        Binding("s", "sync", "Sync now", id="billing.sync", tooltip="Ask Stripe now what happened"),
        Binding("r", "compare", "Reconcile", id="billing.compare", tooltip="Compare all with Stripe's own objects"),
        Binding("x", "resolve", "Resolve", id="billing.resolve", tooltip="Say that the alert was looked at"),
        Binding("y", "copy", "Copy", show=False, id="billing.copy", tooltip="Copy the id under the cursor"),
    ]
    DEFAULT_CSS = """
    Billing TabPane { padding: 0; }
    Billing .said { height: 1; padding: 0 1; background: $panel; }
    Billing #plot { height: 8; }
    Billing.-tall #plot { height: 24; }
    Billing #filter { background: $panel; }
    Billing #account, Billing #entry { height: 6; border-top: solid $panel; }
    Billing #standing { height: auto; max-height: 12; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._org: tuple[str, str] | None = None  # id, name
        self._period = "month"
        self._type: str | None = None
        self._accounts: list[Account] = []
        self._standing: Standing | None = None
        self._entries: dict[str, Entry] = {}

    def body(self) -> ComposeResult:
        with TabbedContent(initial="usage"):
            with TabPane("1 Usage", id="usage"):
                yield Static(id="usage-said", classes="said", markup=False)
                yield Plot(id="plot", names=9, said=14)
                yield Rows(
                    [
                        Column("From (UTC)", 10, grows=True),
                        Column("Prompts", 8, align="right"),
                        Column("Images", 7, align="right"),
                        Column("Videos", 7, align="right"),
                        Column("Passed", 8, align="right"),
                        Column("Rejected", 8, align="right"),
                        Column("Model s", 9, align="right", least=90),
                        Column("Requests", 9, align="right", least=90),
                        Column("Spend", 12, align="right"),
                    ],
                    id="buckets",
                )
            with TabPane("2 Accounts", id="accounts"):
                yield Input(placeholder="Filter: name, plan, charging", compact=True, id="filter")
                yield Rows(
                    [
                        Column("Organisation", 14, grows=True),
                        Column("Plan", 10),
                        Column("Charged", 8),
                        Column("Balance", 12, align="right"),
                        Column("This month", 12, align="right"),
                        Column("Under way", 9, align="right", least=90),
                        Column("Auto top-up", 11),
                        Column("Last try", 24, least=110),
                    ],
                    id="balances",
                    empty="There are no organisations yet.",
                )
                with VerticalScroll(id="account", can_focus=False):
                    yield Facts(id="account-facts")
            with TabPane("3 Ledger", id="ledger"):
                yield Static(id="ledger-said", classes="said", markup=False)
                yield Rows(
                    [
                        Column("At (UTC)", 16),
                        Column("Organisation", 12, grows=True, least=100),
                        Column("Type", 13),
                        Column("Amount", 12, align="right"),
                        Column("Balance", 12, align="right"),
                        Column("What for", 16, grows=True),
                    ],
                    id="entries",
                    empty="Nothing was charged or credited yet.",
                )
                with VerticalScroll(id="entry", can_focus=False):
                    yield Facts(id="entry-facts")
            with TabPane("4 Stripe", id="stripe"):
                yield Facts(id="standing")
                yield Static("Alerts: what a person has to look at", classes="said")
                yield Rows(
                    [Column("Since", 19), Column("Organisation", 14), Column("What", 30, grows=True)],
                    id="alerts",
                    empty="Nothing has to be looked at.",
                )

    @property
    def _pane(self) -> str:
        return self.query_one(TabbedContent).active

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return self._pane in _ONLY[action] if action in _ONLY and self.is_mounted else True

    async def load(self) -> None:
        for part in (self._load_accounts, self._load_usage, self._load_ledger, self._load_standing):
            try:
                await part()
            except Exception as error:  # as a Place's load: what is broken is said, and the rest shown
                self.trouble(error)

    async def _load_accounts(self) -> None:
        self._accounts = await self.ask(lambda: billing.accounts(self.desk))
        self._show_accounts()

    async def _load_standing(self) -> None:
        self._standing = await self.ask(lambda: billing.stripe(self.desk))
        self._show_standing(self._standing)

    # --- usage

    async def _load_usage(self) -> None:
        org, period = self._org, self._period
        said = self.query_one("#usage-said", Static)
        try:
            found = await self.ask(lambda: billing.used_in(self.desk, org[0] if org else None, period))
        except Exception as error:
            said.update(f"✗ What was used cannot be read: {error}")
            raise
        buckets, asked = found.buckets, found.requests
        said.update(f"{self._whose()} · the last {period} · {_span(buckets, period)}")
        series = [
            Series("prompts", [one.prompt for one in buckets], f"{sum(one.prompt for one in buckets):,}"),
            Series("images", [one.image for one in buckets], f"{sum(one.image for one in buckets):,}"),
            Series("videos", [one.video for one in buckets], f"{sum(one.video for one in buckets):,}"),
            Series("passed", [one.passed for one in buckets], f"{sum(one.passed for one in buckets):,}", "good"),
            Series("rejected", [one.rejected for one in buckets], f"{sum(one.rejected for one in buckets):,}", "bad"),
            Series("model s", [one.gpu_ms for one in buckets], f"{sum(one.gpu_ms for one in buckets) / 1000:,.1f} s"),
            Series("requests", asked or [], f"{sum(asked):,}" if asked is not None else "by the day"),
            Series("spend", [one.micros for one in buckets], words.money(sum(one.micros for one in buckets)), "warn"),
        ]
        self.query_one("#plot", Plot).show(series)
        lines = [
            Line(
                str(one.at),
                (
                    _when(one.at, period),
                    f"{one.prompt:,}",
                    f"{one.image:,}",
                    f"{one.video:,}",
                    f"{one.passed:,}",
                    f"{one.rejected:,}",
                    f"{one.gpu_ms / 1000:,.1f}",
                    f"{asked[number]:,}" if asked is not None else "—",
                    words.money(one.micros),
                ),
                "" if one.jobs or (asked and asked[number]) else "muted",
            )
            for number, one in enumerate(buckets)
        ]
        self.query_one("#buckets", Rows).show(lines[::-1])

    @work(exclusive=True, group="usage")
    async def action_period(self) -> None:
        place = billing.PERIODS.index(self._period) + 1
        self._period = billing.PERIODS[place % len(billing.PERIODS)]
        await self._load_usage()

    # --- accounts

    def _show_accounts(self) -> None:
        wanted = self.query_one("#filter", Input).value.lower().split()
        self.query_one("#balances", Rows).show(
            [
                _account_line(one)
                for one in self._accounts
                if all(word in f"{one.name} {one.plan} {one.charge_method}".lower() for word in wanted)
            ]
        )

    def action_filter(self) -> None:
        self.action_pane("accounts")
        self.query_one("#filter", Input).focus()

    @on(Input.Changed, "#filter")
    def _narrow(self) -> None:
        self._show_accounts()

    @on(Input.Submitted, "#filter")
    def _to_table(self) -> None:
        self.query_one("#balances", Rows).focus()

    @property
    def _account(self) -> Account | None:
        line = self.query_one("#balances", Rows).current
        return next((one for one in self._accounts if line and one.id == line.key), None)

    @on(Rows.Moved, "#balances")
    def _tell_account(self) -> None:
        one = self._account
        self.query_one("#account-facts", Facts).show(_account_facts(one) if one else [])

    @on(Rows.Chosen, "#balances")
    def _to_ledger(self, message: Rows.Chosen) -> None:
        """Enter: its entries."""
        one = next(one for one in self._accounts if one.id == message.line.key)
        self._org = one.id, one.name
        self.action_pane("ledger")
        self.action_reload()

    @work(exclusive=True, group="deed")
    async def action_credit(self) -> None:
        one = self._account
        if one is None:
            return
        asked = [
            Asked("amount", "US dollars; below zero takes back", is_required=True, wrong=billing.amount_wrong),
            Asked("reason", "Reason (in the audit log, and seen by the organisation)", is_required=True),
            Asked("reference", "Your reference, credited once", placeholder="an invoice's number; may be empty"),
        ]
        given = await self._asked(Form(f"Credit {one.name}", asked, yes="Credit", text=f"It has {_left(one)}."))
        if given is None:
            return
        amount, reason, reference = given["amount"], given["reason"], given["reference"]
        is_back = amount.startswith("-")
        if is_back:
            text = f"${amount.removeprefix('-')} less for {one.name}, which has {_left(one)}: {reason}"
            if not await self._asked(Confirm("Take credit back?", text, yes="Take back")):
                return
        await self.do(
            lambda: billing.credit(self.desk, one.id, amount, reason, reference),
            lambda entry: (
                f"{reference} was credited before; nothing was changed"
                if entry is None
                else f"{words.money(entry.amount_micros)} credited; {one.name} has {words.money(entry.balance_micros)}"
            ),
        )

    @work(exclusive=True, group="deed")
    async def action_link(self) -> None:
        one = self._account
        if one is None:
            return
        asked = [
            Asked("amount", "US dollars, 5 to 5000", "25", is_required=True, wrong=billing.topup_wrong),
            Asked("save", "Offer to save the card, for automatic top-ups", "no", choices=("no", "yes")),
        ]
        text = "A page of Stripe's is made. Who opens it pays; the credit comes by itself."
        given = await self._asked(Form(f"Top-up link for {one.name}", asked, yes="Make", text=text))
        if given is None:
            return
        amount, save = given["amount"], given["save"] == "yes"
        page = await self.do(
            lambda: billing.topup_page(self.desk, one.id, amount, save_card=save), f"A page over ${amount} is open"
        )
        if page is not None:
            await self._asked(Link(f"{one.name} pays ${amount}", page))

    @work(exclusive=True, group="deed")
    async def action_stop_auto(self) -> None:
        one = self._account
        if one is None:
            return
        if not one.auto.enabled:
            self.notify(f"{one.name}: automatic top-up is off already", markup=False)
            return
        text = "No card of it is charged from now on. It is told so, and can switch it on again."
        given = await self._asked(
            Form(f"Stop automatic top-up of {one.name}?", [REASON], yes="Stop", text=text, destructive=True)
        )
        if given is not None:
            await self.do(
                lambda: billing.stop_auto(self.desk, one.id, given["reason"]), f"{one.name}: automatic top-up is off"
            )

    # --- ledger

    async def _load_ledger(self) -> None:
        org, type = self._org, self._type
        names = {one.id: one.name for one in self._accounts}
        source = _Lines(billing.Entries(self.desk, org[0] if org else None, type), names, self._entries)
        rows = self.query_one("#entries", Rows)
        await rows.follow(source)
        kind = f"only {type}" if type else "every type"
        self.query_one("#ledger-said", Static).update(f"{self._whose()} · {kind} · {_count(rows.row_count)}")

    @work(exclusive=True, group="ledger")
    async def action_type(self) -> None:
        types = (None, *billing.TYPES)
        self._type = types[(types.index(self._type) + 1) % len(types)]
        await self._load_ledger()

    @on(Rows.Moved, "#entries")
    def _tell_entry(self, message: Rows.Moved) -> None:
        one = self._entries.get(message.line.key) if message.line else None
        self.query_one("#entry-facts", Facts).show(_entry_facts(one) if one else [])

    @work(exclusive=True, group="deed")
    async def action_prove(self) -> None:
        self.notify("Reading the whole ledger…")
        try:
            report = await self.ask(lambda: billing.proof(self.desk))
        except Exception as error:  # as a Place's load
            self.trouble(error)
            return
        await self._asked(Confirm(*_proof(report), yes="Close", destructive=False))

    # --- Stripe

    def _show_standing(self, found: Standing) -> None:
        self.query_one("#standing", Facts).show(_standing_facts(found, self.desk.now()))
        self.query_one("#alerts", Rows).show(
            [
                Line(str(one.id), (words.moment(one.created_at), one.organisation or "—", one.message), "warn")
                for one in found.alerts
            ]
        )

    @work(exclusive=True, group="deed")
    async def action_sync(self) -> None:
        self.notify("Asking Stripe…")
        await self.do(lambda: billing.sync(self.desk), _synced)
        self.action_reload()  # after a failure, too: what went wrong stands there then

    @work(exclusive=True, group="deed")
    async def action_compare(self) -> None:
        text = (
            "Every customer is read anew from Stripe: payments, refunds, disputes, cards, subscriptions. It may take "
            "minutes, and credits what we did not hear of."
        )
        if await self._asked(Confirm("Compare everything with Stripe?", text, yes="Compare", destructive=False)):
            await self.do(lambda: billing.compare(self.desk), _synced)
            self.action_reload()

    @on(Rows.Chosen, "#alerts")
    @work(exclusive=True, group="deed")
    async def _read_alert(self, message: Rows.Chosen) -> None:
        """Enter: all of it, where the line is too short."""
        since, org, text = (str(cell) for cell in message.line.cells)
        if await self._asked(Confirm(f"{org}, {since}", text, yes="Resolve", destructive=False)):
            self.action_resolve()

    @work(exclusive=True, group="deed")
    async def action_resolve(self) -> None:
        line = self.query_one("#alerts", Rows).current
        if line is None:
            return
        text = str(line.cells[2])
        given = await self._asked(Form("Was it looked at?", [REASON], yes="Resolve", text=text, destructive=True))
        if given is not None:
            await self.do(
                lambda: billing.resolve(self.desk, int(line.key), given["reason"]), f"Alert {line.key} is resolved"
            )

    # --- of all panes

    def action_pane(self, name: str) -> None:
        self.query_one(TabbedContent).active = name
        self._focus_pane(name)

    @on(TabbedContent.TabActivated)
    def _seen(self) -> None:
        self.refresh_bindings()

    def _focus_pane(self, name: str) -> None:
        self.call_after_refresh(lambda: self.query_one(f"#{name}", TabPane).query_one(Rows).focus())

    @work(exclusive=True, group="deed")
    async def action_whose(self) -> None:
        options = [("", "All organisations together"), *((one.id, one.name) for one in self._accounts)]
        chosen = await self._asked(Choose("Whose?", options, chosen=self._org[0] if self._org else ""))
        if chosen is not None:
            self._org = (chosen, dict(options)[chosen]) if chosen else None
            self.action_reload()

    def action_copy(self) -> None:
        rows = self.query_one(f"#{self._pane}", TabPane).query_one(Rows)
        if line := rows.current:
            self.app.copy_to_clipboard(line.key)
            self.notify("Copied")

    async def _asked(self, dialog: ModalScreen[T]) -> T | None:
        return await cast("App[Any]", self.app).push_screen_wait(dialog)

    def _whose(self) -> str:
        return self._org[1] if self._org else "All organisations"


class Link(ModalScreen[None]):
    """An address to pay at: as a QR code where the terminal has room for it, and as text."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q", "close", "Close", id="link.close"),
        Binding("c,y", "copy", "Copy", id="link.copy", tooltip="Copy the address, over SSH too (OSC 52)"),
    ]
    DEFAULT_CSS = """
    Link { align: center middle; background: $background; }
    Link > Vertical { width: 100%; height: 100%; align: center middle; }
    Link Code { width: auto; }
    Link Static { width: 100%; height: auto; text-align: center; }
    """

    def __init__(self, title: str, page: Page) -> None:
        super().__init__()
        self._title = title
        self._page = page

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(id="title", markup=False)
            yield Code(self._page.url, id="code")
            yield Static(id="url", markup=False)

    def on_mount(self) -> None:
        self._fit()

    def on_resize(self) -> None:
        self._fit()

    def _fit(self) -> None:
        columns, lines = self.app.size
        url = self._page.url
        beside = 1 + -(-len(url) // max(columns, 1))
        code = self.query_one(Code)
        keys = "c copies, escape closes"
        if code.fit(columns, lines - beside):
            self.query_one("#title", Static).update(f"{self._title} · until {_until(self._page)} · {keys}")
        elif code.fit(columns, lines - 1):  # the code instead of the text: c still copies it
            self.query_one("#title", Static).update(f"{self._title} · until {_until(self._page)} · {keys}")
            url = ""
        else:
            wide, high = size(url, 2)
            need = f"Its QR code needs {wide} columns and {high + 1} lines; here are {columns} and {lines}."
            self.query_one("#title", Static).update(
                f"{self._title}\nuntil {_until(self._page)}\n\n{need}\nMake the terminal larger, or its letters "
                f"smaller.\n\n{keys}\n"
            )
        self.query_one("#url", Static).update(url)
        self.query_one("#url").display = bool(url)

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(self._page.url)
        self.notify("Copied")

    def action_close(self) -> None:
        self.dismiss(None)


class _Lines:
    """Entries as lines; what was read is kept for the detail below, as long as it is among the last thousands."""

    def __init__(self, source: billing.Entries, names: dict[str, str], kept: dict[str, Entry]) -> None:
        self._source = source
        self._names = names
        self._kept = kept

    def count(self) -> int:
        return self._source.count()

    def window(self, first: int, count: int) -> Sequence[Line]:
        found = self._source.entries(first, count)
        if len(self._kept) > 5000:
            self._kept.clear()
        self._kept.update({one.id: one for one in found})
        return [self._line(one) for one in found]

    def _line(self, one: Entry) -> Line:
        cells = (
            words.moment(one.created_at)[:16],
            self._names.get(one.org_id, one.org_id),
            one.type.value,
            words.money(one.amount_micros),
            words.money(one.balance_micros),
            one.description,
        )
        return Line(one.id, cells, "good" if one.amount_micros > 0 else "")


_PAID = {"per_job": ", paid for as they were accepted", "gpu_time": ", charged as they complete"}


def _account_line(one: Account) -> Line:
    is_out = one.is_charged and one.balance_micros <= 0
    cells = (
        one.name,
        one.plan,
        one.charge_method,
        words.money(one.balance_micros) + ("!" if is_out else ""),
        words.money(one.spent_micros),
        f"{one.open_jobs:,}",
        _auto(one),
        one.last_try,
    )
    return Line(one.id, cells, "bad" if is_out else "" if one.is_charged else "muted")


def _account_facts(one: Account) -> list[Fact]:
    held = (
        f"nothing; {one.open_jobs:,} jobs are under way{_PAID.get(one.charge_method, '')}"
        if one.open_jobs
        else "nothing"
    )
    is_out = one.is_charged and one.balance_micros <= 0
    left = words.money(one.balance_micros) + (" — new jobs are refused (402)" if is_out else "")
    auto = one.auto
    rule = (
        f" below {words.money(auto.threshold_micros)}: {words.money(auto.amount_micros)} from {auto.payment_method_id}"
        if auto.threshold_micros is not None and auto.amount_micros is not None
        else ""
    )
    last = f"; last try {one.last_try}" if one.last_try else ""
    return [
        (one.name, Text(left, style="bold")),
        ("held back", held),
        ("auto top-up", f"{_auto(one)}{rule}{last}"),
        ("id", one.id),
    ]


def _auto(one: Account) -> str:
    if one.auto.enabled:
        return "on"
    return f"off: {one.auto.disabled_reason.replace('_', ' ')}" if one.auto.disabled_reason else "off"


def _entry_facts(one: Entry) -> list[Fact]:
    facts: list[Fact] = [
        (one.type.value, Text(f"{words.money(one.amount_micros)} → {words.money(one.balance_micros)}", style="bold")),
        ("what for", one.description),
        ("source", f"{one.source_type}:{one.source_id}"),
        ("entry", one.id),
    ]
    return [*facts, ("job", one.job_id)] if one.job_id else facts


def _standing_facts(found: Standing, now: int) -> list[Fact]:
    if found.is_off:
        return [
            ("Stripe", Text("off: there is no key", style="bold")),
            (
                "",
                "Credit is given by hand (2 Accounts, c). To take payments, put a restricted key into a file, name it "
                "by billing.stripe_key_file and restart; README says which rights it needs.",
            ),
        ]
    facts: list[Fact] = []
    if found.problem:
        facts.append(("Stripe", Text(f"✗ {found.problem}", style="bold")))
    elif found.is_failing:
        ago = words.ago(found.last_error_at, now)
        facts.append(("Stripe", Text(f"✗ not in order since the last answer: {found.last_error}", style="bold")))
        facts.append(("failed", f"{ago} ago; payments that come in meanwhile are read later, none is lost"))
    elif found.last_ok_at is None:
        facts.append(("Stripe", Text("not asked yet; the worker does so, or s", style="bold")))
    else:
        facts.append(("Stripe", Text("✓ in order", style="bold")))
    key = "—" if found.mode is None else f"{found.mode}, {'restricted' if found.restricted_key else 'UNRESTRICTED'}"
    return [
        *facts,
        ("key", key),
        ("address", found.address),
        ("last synced", f"{words.moment(found.last_ok_at)} ({words.ago(found.last_ok_at, now)})"),
        ("reconciled", words.moment(found.reconciled_at)),
        ("read until", found.cursor or "—"),
        ("awaited", f"{found.pending} payments, {found.subscriptions} subscriptions active"),
    ]


def _synced(found: Standing) -> str:
    return f"In order; {found.pending} payments awaited, {len(found.alerts)} alerts open"


def _proof(report: Report) -> tuple[str, str]:
    head = (
        f"{report.entries:,} entries of {report.organisations:,} organisations come to "
        f"{words.money(report.balance_micros)}.\n{report.charged_jobs:,} jobs charged, {report.refunded_jobs:,} of "
        f"them refunded; {report.purged_jobs:,} gone since."
    )
    if report.is_whole:
        return "✓ The ledger is whole", head
    sorts = "\n".join(f"{sort}: {count:,}" for sort, count in report.faults.items())
    seen = "\n".join(f"{one.sort}: {one.subject}: {one.message}" for one in report.evidence[:20])
    return "✗ THE LEDGER IS NOT WHOLE", f"{head}\n\n{sorts}\n\n{seen}"


def _count(entries: int) -> str:
    return "1 entry" if entries == 1 else f"{entries:,} entries"


def _left(one: Account) -> str:
    return words.money(one.balance_micros)


def _until(page: Page) -> str:
    return words.moment(page.expires_at)[:16]


def _when(at: int, period: str) -> str:
    form = {"hour": "%H:%M", "day": "%m-%d %H:00", "year": "%Y-%m"}.get(period, "%Y-%m-%d")
    return datetime.fromtimestamp(at / 1000, UTC).strftime(form)


def _span(buckets: Sequence[Bucket], period: str) -> str:
    return f"{_when(buckets[0].at, period)} to {_when(buckets[-1].at, period)}" if buckets else ""


SCREEN = Billing
